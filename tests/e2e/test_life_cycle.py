"""From `kubectl apply` to a published model, on a real node with the images as they are shipped."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.bench import Bench, Stack, condition, stage, tiny_job
from stack import hub


def test_a_lora_run_goes_from_data_to_a_published_model(bench: Bench, stack: Stack) -> None:
    name = bench.apply(tiny_job("lora"))

    resource = bench.wait_for_phase(name, "Succeeded")

    status = resource["status"]
    assert [found["name"] for found in status["stages"]] == ["prepare", "train", "merge", "upload"]
    assert {found["state"] for found in status["stages"]} == {"Succeeded"}
    assert bench.jobs(name) == [
        f"{name}-{verb}-1" for verb in ("prepare", "train", "merge", "upload")
    ]
    assert status["progress"]["display"] == {"percent": "100%", "step": "12/12"}
    assert float(status["metrics"]["validationLoss"]) < float(
        status["metrics"]["baseValidationLoss"]
    )
    for type in ("Succeeded", "Ready", "Prepared", "Trained", "Merged", "Uploaded"):
        assert condition(resource, type)["status"] == "True", type
    with hub.reachable(stack.cluster) as api:
        files = set(api.list_repo_files(status["artifacts"]["repository"]))
        assert (
            api.model_info(status["artifacts"]["repository"]).sha == status["artifacts"]["commit"]
        )
    assert {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "finetune/report.html",
        "finetune/loss.png",
    } <= files
    assert "chat_template.jinja" in files


def test_full_training_publishes_the_whole_model_without_a_merge(
    bench: Bench, stack: Stack
) -> None:
    name = bench.apply(tiny_job("full", method={"full": {}}))

    resource = bench.wait_for_phase(name, "Succeeded")

    assert [found["name"] for found in resource["status"]["stages"]] == [
        "prepare",
        "train",
        "upload",
    ]
    with hub.reachable(stack.cluster) as api:
        files = api.list_repo_files(resource["status"]["artifacts"]["repository"])
    assert "model.safetensors" in files
    assert not any(file.startswith("adapter/") for file in files)


def test_columns_of_kubectl_get_and_events_tell_the_story(bench: Bench) -> None:
    name = bench.apply(tiny_job("told", upload=None, merge=None))

    bench.wait_for_phase(name, "Succeeded")

    header, row = bench.kubectl("get", "ftj", name).splitlines()
    assert header.split() == ["NAME", "PHASE", "STAGE", "PROGRESS", "STEP", "LOSS", "AGE"]
    assert row.split()[1:5] == ["Succeeded", "train", "100%", "12/12"]
    events = "\n".join(bench.events(name))
    assert "prepare" in events
    assert "train" in events
    assert "Succeeded" in events


@pytest.mark.parametrize("strategy", ["Auto", "FSDP", "DeepSpeed"])
def test_two_training_pods_meet_through_the_headless_service(strategy: str, bench: Bench) -> None:
    name = bench.apply(
        tiny_job(
            f"two-{strategy.lower()}",
            upload=None,
            resources={"nodes": 2, "gpusPerNode": 1},
            parallelism={"strategy": strategy},
        )
    )

    resource = bench.wait_for_phase(name, "Succeeded")

    pods = bench.items("pods", f"finetune.dev/run={name},finetune.dev/stage=train")
    assert len(pods) == 2
    assert all(pod["status"]["phase"] == "Succeeded" for pod in pods)
    assert stage(resource, "train")["attempt"] == 1
    log = bench.kubectl("logs", "-l", f"batch.kubernetes.io/job-name={name}-train-1", "--tail=-1")
    assert "2 process(es)" in log
    expected = "DDP" if strategy == "Auto" else strategy
    assert resource["status"]["resolved"]["strategy"] == expected
    metrics = resource["status"]["metrics"]
    assert float(metrics["validationLoss"]) < float(metrics["baseValidationLoss"])


def test_suspending_and_evicting_cost_nothing_but_time(bench: Bench) -> None:
    training = {"maxSteps": 900, "sequenceLength": 128, "sequencesPerStep": 4}
    name = bench.apply(tiny_job("paused", upload=None, training=training))
    bench.wait_for_step(name, 20)

    bench.patch_spec(name, {"suspend": True})
    paused = bench.wait_for_phase(name, "Suspended")
    assert condition(paused, "Suspended")["status"] == "True"
    assert "attempts" not in paused["status"]
    # The checkpoint that is saved before its pod ends is told, though the run is suspended by then.
    saved = bench.wait(name, _is_saved, "its last step is saved")["status"]["progress"]
    before = saved["step"]
    assert before >= paused["status"]["progress"]["step"]

    bench.patch_spec(name, {"suspend": None})
    bench.wait_for_step(name, before + 20)
    bench.evict(f"{name}-train-2")
    resource = bench.wait_for_phase(name, "Succeeded")

    [attempt] = resource["status"]["attempts"]
    assert attempt["reason"] in ("Preempted", "Disrupted")
    assert stage(resource, "prepare")["attempt"] == 1
    assert stage(resource, "train")["attempt"] == 3
    assert stage(resource, "train").get("failures", 0) == 0
    assert "resuming after step" in bench.kubectl("logs", f"job/{name}-train-3")


def _is_saved(status: dict[str, Any]) -> bool:
    return bool(status["progress"]["step"] == status["progress"].get("checkpointStep"))

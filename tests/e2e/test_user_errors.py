"""What only data, tokens and the Hub can show: one sentence everywhere.

Nothing is retried, nothing is lost.
"""

from __future__ import annotations

from e2e.bench import Bench, Stack, condition, stage, tiny_job
from stack import hub


def test_a_wrong_column_fails_in_prepare_and_names_the_columns_that_exist(bench: Bench) -> None:
    job = tiny_job("column")
    job["spec"]["dataset"]["format"] = {"questionAnswer": {"question": "problem"}}
    name = bench.apply(job)

    resource = bench.wait_for_phase(name, "Failed")

    message = resource["status"]["message"]
    assert '"problem"' in message
    assert "question" in message
    assert "answer" in message
    assert condition(resource, "Failed")["message"] == message
    assert condition(resource, "Failed")["reason"] == "UserError"
    assert condition(resource, "Stalled")["status"] == "True"
    assert any(message in event for event in bench.events(name))
    # No second attempt, and no pod that asks for a GPU.
    assert bench.jobs(name) == [f"{name}-prepare-1"]


def test_a_refused_token_fails_in_upload_and_a_corrected_secret_finishes_without_training_again(
    bench: Bench, stack: Stack
) -> None:
    bench.create_token_secret("hf-wrong", "hf_no_such_token")
    upload = {"repository": "acme/refused", "tokenSecretRef": {"name": "hf-wrong"}}
    name = bench.apply(tiny_job("refused", upload=upload))

    failed = bench.wait_for_phase(name, "Failed")

    assert stage(failed, "upload")["state"] == "Failed"
    assert stage(failed, "merge")["state"] == "Succeeded"
    assert "token" in failed["status"]["message"]
    assert {"adapter", "merged"} <= failed["status"]["artifacts"].keys()

    bench.create_token_secret("hf-wrong", hub.WRITE_TOKEN)
    bench.patch_spec(name, {"rerunToken": "secret-corrected"})
    bench.wait(name, lambda status: status.get("phase") != "Failed", "another upload", final=())
    resource = bench.wait_for_phase(name, "Succeeded")

    assert bench.jobs(name) == [
        f"{name}-prepare-1",
        f"{name}-train-1",
        f"{name}-merge-1",
        f"{name}-upload-1",
        f"{name}-upload-2",
    ]
    with hub.reachable(stack.cluster) as api:
        assert api.model_info("acme/refused").sha == resource["status"]["artifacts"]["commit"]


def test_a_model_that_does_not_exist_fails_in_prepare(bench: Bench) -> None:
    name = bench.apply(tiny_job("missing", model={"source": "hf://nobody/nothing"}))

    resource = bench.wait_for_phase(name, "Failed")

    assert "nobody/nothing" in resource["status"]["message"]
    assert condition(resource, "Failed")["reason"] == "UserError"

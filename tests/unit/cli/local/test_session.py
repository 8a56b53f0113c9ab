"""The operator's policy on processes: what runs, what is tried again, what a signal and another
call do. The trainer is a stand-in; processes, signals, files and reports are real.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from finetune_cli.errors import CliError
from finetune_cli.local.order import check
from finetune_operator.core import attempts
from finetune_operator.vocabulary import Phase, Stage, StageState
from unit.cli.local.stand_in import SETTINGS, Bench

ALL = ["prepare-1", "train-1", "merge-1", "upload-1"]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(attempts, "FIRST_PAUSE", 0.0)
    return Bench(tmp_path, monkeypatch)


def test_the_stages_run_in_their_order_and_a_finished_run_is_left_alone(bench: Bench) -> None:
    assert bench.run().phase is Phase.SUCCEEDED
    assert bench.stages() == ALL
    kept = json.loads(bench.place.state.read_text())
    assert kept["status"]["phase"] == "Succeeded"
    assert kept["spec"] == bench.document["spec"]
    assert bench.run().phase is Phase.SUCCEEDED
    assert bench.stages() == ALL


def test_what_failed_for_good_is_told_and_tried_again_by_the_next_call(bench: Bench) -> None:
    status = bench.run({"train-1": ["say The learning rate is too high.", "exit 14"]})
    assert status.phase is Phase.FAILED
    assert bench.said(status) == (
        "The learning rate is too high. Correct it, then run the same command again."
    )
    assert bench.run().phase is Phase.SUCCEEDED
    assert bench.stages() == ["prepare-1", "train-1", "train-2", "merge-1", "upload-1"]


def test_what_may_pass_is_tried_three_times(bench: Bench) -> None:
    broken = ["say The Hub does not answer.", "exit 11"]
    status = bench.run({f"prepare-{attempt}": broken for attempt in (1, 2, 3)})
    assert (status.phase, bench.stages()) == (
        Phase.FAILED,
        ["prepare-1", "prepare-2", "prepare-3"],
    )
    assert bench.said(status) == (
        "The Hub does not answer. For another try run the same command again."
    )


def test_a_crash_is_told_with_the_log_and_its_last_line(bench: Bench) -> None:
    crash = {f"merge-{attempt}": ["crash ImportError: no torch"] for attempt in (1, 2, 3)}
    said = bench.said(bench.run(crash))
    log = bench.place.log("demo-merge-3")
    assert said.startswith(f"merge ended with exit code 1 and no explanation; {log} says more")
    assert "ImportError: no torch" in said
    assert "ImportError: no torch" in log.read_text()


def test_a_signal_lets_training_save_and_the_next_call_goes_on(bench: Bench) -> None:
    status = bench.run({"train-1": ["report 4", "ask", "wait", "exit 13"]})
    assert status.phase is Phase.SUSPENDED
    assert bench.said(status) == "Suspended in train: run the same command again to go on."
    assert status.attempts == []
    assert bench.run().phase is Phase.SUCCEEDED
    assert bench.stages() == ["prepare-1", "train-1", "train-2", "merge-1", "upload-1"]


def test_a_second_signal_ends_what_does_not_listen(bench: Bench) -> None:
    status = bench.run({"prepare-1": ["ask", "wait", "ask", "sleep"]})
    assert status.phase is Phase.SUSPENDED


def test_a_call_that_was_killed_costs_nothing(bench: Bench) -> None:
    bench.run({"train-1": ["ask", "wait", "exit 13"]})
    kept = json.loads(bench.place.state.read_text())
    kept["status"]["stages"][1] |= {"state": StageState.RUNNING, "job": "demo-train-1"}
    bench.place.state.write_text(json.dumps(kept))
    status = bench.run()
    assert (status.phase, status.attempts) == (Phase.SUCCEEDED, [])
    assert bench.stages()[1:3] == ["train-1", "train-2"]


def test_progress_is_in_the_status_and_gone_further_renews_the_budget(bench: Bench) -> None:
    steps = {f"train-{n}": [f"report {n}", "exit 11"] for n in (1, 2, 3, 4)}
    status = bench.run({**steps, "merge-1": ["exit 10"]})
    assert [attempt.step for attempt in status.attempts if attempt.stage == "train"] == [1, 2, 3, 4]
    assert status.metrics["loss"] == "1.5"
    assert any((doc["status"].get("progress") or {}).get("step") == 3 for doc in bench.shown)


def test_tokens_and_sources_reach_the_stage_that_needs_them_and_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("RANK", "7")
    bench.run()
    held = {
        call["stage"]: {"/".join(Path(name).parts[-2:]) for name in call["files"]}
        for call in bench.calls()
    }
    assert held == {
        "prepare": {"model/token", "dataset/rows.jsonl"},
        "train": {"progress/token"},
        "merge": set(),
        "upload": {"upload/token"},
    }
    for call in bench.calls():
        assert {"HF_TOKEN", "RANK"} & call["env"].keys() == set()
        assert call["env"]["FINETUNE_WORKSPACE"] == str(bench.place.root)
        # Nothing of it is left.
        assert [name for name in call["files"] if Path(name).exists()] == []
    assert "hf_secret" not in "".join(
        file.read_text() for file in bench.place.root.rglob("*") if file.is_file()
    )


@pytest.mark.parametrize("last", [Stage.PREPARE, Stage.TRAIN, Stage.MERGE])
def test_nothing_runs_after_the_stage_that_was_asked_for(bench: Bench, last: Stage) -> None:
    status = bench.run(until=last)
    assert status.phase is Phase.SUSPENDED
    assert bench.stages() == ALL[: list(Stage).index(last) + 1]


def test_upload_can_wait(bench: Bench) -> None:
    status = bench.run(until=Stage.MERGE)
    assert (status.phase, bench.stages()) == (Phase.SUSPENDED, ALL[:3])
    assert bench.run().phase is Phase.SUCCEEDED
    assert bench.stages() == ALL


def test_starting_over_is_another_plan(bench: Bench) -> None:
    bench.run()
    assert bench.run(start_over=True).phase is Phase.SUCCEEDED
    assert bench.stages() == [*ALL, *(name.replace("1", "2") for name in ALL)]
    first, second = (call["plan"] for call in bench.calls() if call["stage"] == "train")
    assert first != second


def test_a_corrected_field_starts_over_while_nothing_is_lost_by_it(bench: Bench) -> None:
    bench.run({"prepare-1": ["say There is no such column.", "exit 10"]})
    bench.document["spec"]["dataset"]["format"] = {"questionAnswer": {"question": "q"}}
    assert bench.run({"train-1": ["report 4", "exit 14"]}).phase is Phase.FAILED
    assert bench.stages() == ["prepare-1", "prepare-2", "train-1"]
    bench.document["spec"]["training"] = {"learningRate": "1e-5"}
    with pytest.raises(CliError) as refused:
        bench.run()
    assert refused.value.message == (
        "spec.training is not what this directory's run was started with, which has trained 4 "
        "steps: say --start-over to do them again, or name another --workspace."
    )
    assert bench.run(start_over=True).phase is Phase.SUCCEEDED
    assert bench.stages()[3:5] == ["prepare-3", "train-2"]


def test_a_stage_that_was_left_behind_keeps_the_directory_taken(bench: Bench) -> None:
    with bench.place.held():
        left = subprocess.Popen(
            [sys.executable, "-c", "input()"],
            stdin=subprocess.PIPE,
            pass_fds=(bench.place.lock,),
        )
        bench.place.note(left.pid)
    try:
        with pytest.raises(CliError, match=rf"\(process {os.getpid()} {left.pid}\)"):
            bench.run()
    finally:
        left.communicate(b"\n")
    assert bench.run().phase is Phase.SUCCEEDED


def test_a_claim_inside_the_workspace_would_be_cleared_and_is_refused(bench: Bench) -> None:
    bench.document["spec"]["model"] = {"source": "pvc://models/base"}
    bench.bindings = replace(bench.bindings, volumes={"models": bench.place.root / "models"})
    with pytest.raises(CliError, match=r"said to be a claim, is in the workspace .*/demo, which"):
        check(bench.order(), bench.place, SETTINGS)
    bench.bindings = replace(bench.bindings, volumes={"models": bench.place.root.parent / "models"})
    check(bench.order(), bench.place, SETTINGS)


def test_what_has_been_done_needs_its_tokens_no_more(bench: Bench) -> None:
    bench.run(until=Stage.MERGE)
    bench.bindings = replace(bench.bindings, token=None)
    check(bench.order(until=Stage.MERGE), bench.place, SETTINGS)
    with pytest.raises(CliError, match=r"^spec\.upload\.tokenSecretRef names the Secret hf-write"):
        check(bench.order(), bench.place, SETTINGS)
    with pytest.raises(CliError, match=r"^spec\.model\.tokenSecretRef names the Secret hf-read"):
        check(bench.order(start_over=True), bench.place, SETTINGS)


@pytest.mark.parametrize("lost", ["status", "spec", "metadata"])
def test_a_state_that_somebody_has_edited_is_told(bench: Bench, lost: str) -> None:
    bench.run({"prepare-1": ["exit 10"]})
    kept = json.loads(bench.place.state.read_text())
    kept[lost] = {"name": "demo", "phase": "Cooking"}
    bench.place.state.write_text(json.dumps(kept))
    with pytest.raises(CliError, match=r"is not what `finetune run` has written there"):
        bench.order()


def plans(bench: Bench) -> dict[str, str]:
    """The hash of the plan that each attempt was given."""
    return {f"{call['stage']}-{call['attempt']}": call["plan"] for call in bench.calls()}


@pytest.mark.parametrize("ends", ["exit 10", "exit 0"], ids=["failed", "succeeded"])
def test_another_repository_is_published_to_without_training_again(bench: Bench, ends: str) -> None:
    bench.run({"upload-1": [ends]})
    bench.document["spec"]["upload"]["repository"] = "acme/other"
    assert bench.order().asks_anew
    check(bench.order(), bench.place, SETTINGS)
    status = bench.run()
    assert (status.phase, bench.stages()) == (Phase.SUCCEEDED, [*ALL, "upload-2"])
    assert plans(bench)["upload-2"] == status.plan_hash != plans(bench)["train-1"]
    assert not bench.order().asks_anew


def test_training_that_goes_on_is_given_the_plan_that_it_began_by(bench: Bench) -> None:
    bench.run({"train-1": ["report 4", "exit 14"]})
    bench.document["spec"]["upload"]["repository"] = "acme/other"
    assert bench.run().phase is Phase.SUCCEEDED
    assert bench.stages() == ["prepare-1", "train-1", "train-2", "merge-1", "upload-1"]
    given = plans(bench)
    assert given["train-2"] == given["train-1"] == given["merge-1"] != given["upload-1"]


def test_another_merge_is_made_also_while_upload_has_to_wait(bench: Bench) -> None:
    bench.run(until=Stage.MERGE)
    bench.document["spec"]["merge"] = {"precision": "Float32"}
    assert bench.run(until=Stage.MERGE).phase is Phase.SUSPENDED
    assert bench.stages() == [*ALL[:3], "merge-2"]
    assert bench.run().phase is Phase.SUCCEEDED
    assert bench.stages() == [*ALL[:3], "merge-2", "upload-1"]


def test_starting_over_is_done_also_while_upload_has_to_wait(bench: Bench) -> None:
    bench.run(until=Stage.MERGE)
    assert bench.run(until=Stage.MERGE, start_over=True).phase is Phase.SUSPENDED
    assert bench.stages() == [*ALL[:3], "prepare-2", "train-2", "merge-2"]


def test_a_call_that_died_before_it_told_of_the_new_plan_costs_no_training(bench: Bench) -> None:
    bench.run({"upload-1": ["exit 10"]})
    kept = bench.place.state.read_text()
    bench.document["spec"]["upload"]["repository"] = "acme/other"
    bench.run()
    bench.place.state.write_text(kept)
    assert bench.run().phase is Phase.SUCCEEDED
    assert {stage.split("-")[0] for stage in bench.stages()[len(ALL) :]} == {"upload"}

"""The table of runs."""

from __future__ import annotations

from finetune_cli.show.runs import table
from finetune_cli.view import Run
from unit.cli.examples import NOW, raw, training
from unit.cli.screens import text_of


def test_a_run_is_one_line() -> None:
    runs = [training(), Run(raw(name="new", resources={"gpusPerNode": 8, "nodes": 2}))]
    assert (
        text_of(table(runs, NOW, wide=False, namespaces=False), 100)
        == """\
NAME         PHASE      PROGRESS   STEP     LOSS    ETA      GPUS   AGE
gemma-math   Training   42%        84/200   1.234   21m30s   0      21m00s
new          Pending    -          -        -       -        16     21m00s"""
    )


def test_wide_has_model_method_attempts_and_message() -> None:
    shown = text_of(table([training()], NOW, wide=True, namespaces=True), 200).splitlines()
    assert shown[0].split()[-4:] == ["MODEL", "METHOD", "ATTEMPTS", "MESSAGE"]
    assert shown[0].split()[:2] == ["NAMESPACE", "NAME"]
    assert shown[1].endswith("acme/base   LoRA     1 failed   train runs.")


def test_a_run_that_is_held_up_is_marked() -> None:
    stuck = [{"type": "Ready", "status": "False", "reason": "Unschedulable", "message": ""}]
    assert "Training !" in text_of(
        table([training(conditions=stuck)], NOW, wide=False, namespaces=False)
    )


def test_a_run_that_has_ended_has_no_time_left() -> None:
    done = training(phase="Succeeded")
    assert "21m30s" not in text_of(table([done], NOW, wide=False, namespaces=False))

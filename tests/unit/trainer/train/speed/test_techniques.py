"""Each technique can be done without, and what is learned stays the same."""

import json
import subprocess

import pytest

from finetune_trainer.train.speed.techniques import SWITCH, TECHNIQUES, enabled
from unit.trainer.train.made import plan, prepared_workspace, trainer_process


def test_the_switch_names_those_to_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "lora,loss")
    assert [each for each in TECHNIQUES if not enabled(each)] == ["loss", "lora"]


@pytest.mark.timeout(400)
def test_losses_are_the_same_with_all_of_them_and_with_none(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    run = plan(maxSteps=3)
    losses = []
    for without in ("", ",".join(TECHNIQUES)):
        workspace = prepared_workspace(tmp_path_factory.mktemp("workspace"))
        process: subprocess.Popen[str] = trainer_process(workspace, run, **{SWITCH: without})
        output, _ = process.communicate()
        assert process.returncode == 0, output
        lines = [json.loads(line) for line in workspace.history.read_text().splitlines()]
        losses.append([line["loss"] for line in lines if "loss" in line])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)

"""Each technique can be done without, and what is learned stays the same."""

from pathlib import Path

import pytest

from finetune_trainer.outcome import Outcome
from finetune_trainer.train.speed.techniques import SWITCH, TECHNIQUES, enabled
from unit.trainer.train.forked import run_to_its_end
from unit.trainer.train.made import plan, prepared_workspace, trainer_process
from unit.trainer.train.runs import losses


def test_the_switch_names_those_to_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "lora,loss")
    assert [each for each in TECHNIQUES if not enabled(each)] == ["loss", "lora"]


@pytest.mark.timeout(400)
def test_losses_are_the_same_with_all_of_them_and_with_none(tmp_path: Path) -> None:
    run = plan(maxSteps=3)
    with_all = prepared_workspace(tmp_path / "all")
    ended = run_to_its_end(with_all, run)
    assert ended.outcome is Outcome.SUCCEEDED, ended.log
    # A process of its own from the beginning: the switch is read when modules are loaded.
    with_none = prepared_workspace(tmp_path / "none")
    process = trainer_process(with_none, run, **{SWITCH: ",".join(TECHNIQUES)})
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert losses(with_none) == pytest.approx(losses(with_all), rel=1e-5)

"""Trainings that cannot succeed: each ends with its exit code and one sentence that says what to
change, and leaves a checkpoint that a corrected run goes on from. `pytest -rP` on this file prints
them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_trainer.outcome import Outcome
from finetune_trainer.run import Run
from finetune_trainer.train import checkpoint
from finetune_trainer.workspace import Workspace
from unit.trainer.train import harm
from unit.trainer.train.bad_runs import BAD, Bad, good, lora
from unit.trainer.train.forked import Ended, run_to_its_end
from unit.trainer.train.made import prepared_workspace
from unit.trainer.train.runs import weights

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A good run at its end; nothing may change it."""
    workspace = prepared_workspace(tmp_path_factory.mktemp("good") / "workspace")
    (workspace.root / "loss").mkdir()
    ended = run_to_its_end(workspace, good(keep=4))
    assert ended.outcome is Outcome.SUCCEEDED, ended.log
    return workspace


@pytest.fixture
def workspace(run_once: Workspace, tmp_path: Path) -> Iterator[Workspace]:
    """The same, as if its pod had been lost after step 4."""
    copy = Workspace(shutil.copytree(run_once.root, tmp_path / "workspace"))
    for made in (
        copy.adapter,
        copy.result("train").parent,
        *checkpoint.steps(copy.checkpoints)[:2],
    ):
        shutil.rmtree(made)
    lines = copy.history.read_text().splitlines(keepends=True)
    copy.history.write_text("".join(line for line in lines if json.loads(line)["step"] <= 4))
    yield copy
    if os.path.ismount(copy.checkpoints):
        subprocess.run(["umount", str(copy.checkpoints)], check=True)


def ended(workspace: Workspace, run: Run | dict[str, Any], bad: Bad | None = None) -> Ended:
    before, environment = (bad.before, bad.environment) if bad else (None, {})
    mounted = str(workspace.root / "loss")
    return run_to_its_end(
        workspace, run, before, **{**environment, "FINETUNE_LOSS_DIRECTORY": mounted}
    )


def repair(workspace: Workspace, whole: Workspace) -> None:
    """Undo the harm, but leave what has been trained as it is."""
    for directory in (workspace.root, workspace.checkpoints):
        directory.chmod(0o755)
    (workspace.checkpoints / "others").unlink(missing_ok=True)
    for name in ("model", "data"):
        shutil.rmtree(workspace.root / name, ignore_errors=True)
        shutil.copytree(whole.root / name, workspace.root / name)
    shutil.copy(whole.plan_hash, workspace.plan_hash)


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_a_bad_run_ends_with_a_sentence_and_leaves_what_was_trained(
    bad: Bad, workspace: Workspace, run_once: Workspace
) -> None:
    if bad.harm is not None:
        bad.harm(workspace)
    found = ended(workspace, bad.run, bad)
    said = found.message.replace(str(workspace.root), "WORKSPACE")
    print(f"{bad.what}: {found.outcome.label}: {said}")
    assert found.outcome is bad.outcome, found.log
    assert bad.says(said)
    assert not workspace.adapter.exists()
    if not workspace.checkpoints.exists():
        return  # it had no state to leave
    repair(workspace, run_once)
    newest = int(checkpoint.steps(workspace.checkpoints)[0].name.removeprefix("step-"))
    assert newest >= 4
    corrected = ended(workspace, good(newest + 1))
    assert corrected.outcome is Outcome.SUCCEEDED, corrected.log
    assert corrected.result["resumedFromStep"] == newest


DAMAGED = "weights.safetensors is damaged"
OTHERS = "its weights are not those that this plan trains"


@pytest.mark.parametrize(
    ("harmed", "count", "why", "resumed"),
    [
        (harm.cut, 1, DAMAGED, 2),
        (harm.turn_bit, 1, DAMAGED, 2),
        (Path.unlink, 1, "No such file or directory", 2),
        (harm.turn_bit, 2, DAMAGED, None),
    ],
    ids=["one cut off", "one with a turned bit", "one without weights", "all damaged"],
)
def test_checkpoints_that_cannot_be_used_are_skipped_with_a_warning(
    harmed: Callable[[Path], object],
    count: int,
    why: str,
    resumed: int | None,
    workspace: Workspace,
    run_once: Workspace,
) -> None:
    harm.newest_checkpoints(harmed, count)(workspace)
    found = ended(workspace, good())
    assert found.outcome is Outcome.SUCCEEDED, found.log
    for step in (4, 2)[:count]:
        (line,) = [
            line for line in found.log.splitlines() if line.startswith(f"step-{step} cannot")
        ]
        print(line)
        assert line.startswith(f"step-{step} cannot be used and is skipped: ")
        assert why in line
    assert found.result.get("resumedFromStep") == resumed
    for name, tensor in weights(run_once).items():
        assert torch.equal(weights(workspace)[name], tensor), name


def test_checkpoints_of_another_rank_are_skipped_and_the_run_begins_anew(
    workspace: Workspace,
) -> None:
    found = ended(workspace, Bad("", "", method=lora(rank=8)).run)
    assert found.outcome is Outcome.SUCCEEDED, found.log
    assert "resumedFromStep" not in found.result
    for step in (4, 2):
        assert f"step-{step} cannot be used and is skipped: {OTHERS}\n" in found.log

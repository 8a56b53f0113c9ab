"""A checkpoint that somebody asks for while training goes on, as the operator's answers tell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_trainer.outcome import Outcome, PreemptedError
from finetune_trainer.run import Strategy
from finetune_trainer.run.surroundings import Parallelism
from finetune_trainer.train import checkpoint, outlets
from finetune_trainer.train import recipe as subject
from finetune_trainer.train.parallel import seed_step
from finetune_trainer.train.progress import Reporter
from finetune_trainer.train.recipe import train
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace
from unit.trainer.train.forked import run_to_its_end
from unit.trainer.train.harm import slowly
from unit.trainer.train.made import StopAfter, plan, prepared_workspace
from unit.trainer.train.progress_server import Server, progress_server, wait_for
from unit.trainer.train.runs import losses, weights

FIRST, SECOND = "2026-01-31T12:00:00Z", "2026-01-31T12:05:00+02:00"
NEVER = {"everySteps": 0, "keep": 9}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with progress_server() as made:
        monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", f"http://{made.address}")
        monkeypatch.setenv("FINETUNE_PROGRESS_SECONDS", "0")
        monkeypatch.delenv("KUBEFLOW_TRAINER_SERVER_CA_CERT", raising=False)
        yield made


def ask(server: Server, at: str, *, heard_in: int, patch: pytest.MonkeyPatch) -> None:
    """The server asks for a checkpoint; `train` has its first answer in step `heard_in`."""
    reporters: list[Reporter] = []
    server.ask_for_checkpoint(at)
    server.hold.clear()

    class Watched(Reporter):
        """One that tests may look at."""

        def __enter__(self) -> Reporter:
            reporters.append(self)
            return super().__enter__()

    def heard_before(seed: int, step: int, rank: int) -> None:
        if step + 1 == heard_in:
            server.hold.set()
            wait_for(lambda: reporters[-1].requested() == at)
        seed_step(seed, step, rank)

    patch.setattr(outlets, "Reporter", Watched)
    patch.setattr(subject, "seed_step", heard_before)


def saved(workspace: Workspace) -> list[str]:
    return [path.name for path in checkpoint.steps(workspace.checkpoints)]


def test_it_is_saved_after_the_step_in_which_it_is_heard_of_once_and_changes_nothing(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = plan(maxSteps=8, checkpoint=NEVER)
    undisturbed, asked = (prepared_workspace(tmp_path / name) for name in ("undisturbed", "asked"))
    train(run, undisturbed, Stop())
    assert saved(undisturbed) == ["step-8"]

    ask(server, FIRST, heard_in=3, patch=monkeypatch)
    train(run, asked, Stop())
    assert saved(asked) == ["step-8", "step-3"]
    assert losses(asked) == losses(undisturbed)
    for name, tensor in weights(undisturbed).items():
        assert torch.equal(weights(asked)[name], tensor), name
    assert capsys.readouterr().out.count(f"saving after step 3: asked for {FIRST}") == 1
    assert server.told("checkpoint_step")[-1] == "8"


@pytest.mark.parametrize(
    ("then", "expected"),
    [(FIRST, ["step-9", "step-4", "step-3"]), (SECOND, ["step-9", "step-7", "step-4", "step-3"])],
    ids=["the same", "a new one"],
)
def test_a_resumed_run_knows_which_request_has_been_answered(
    then: str, expected: list[str], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, workspace = plan(maxSteps=9, checkpoint=NEVER), prepared_workspace(tmp_path)
    with monkeypatch.context() as patch:
        ask(server, FIRST, heard_in=3, patch=patch)
        with pytest.raises(PreemptedError):
            train(run, workspace, StopAfter(4).arm(subject, patch))
    assert saved(workspace) == ["step-4", "step-3"]
    ask(server, then, heard_in=7, patch=monkeypatch)
    train(run, workspace, Stop())
    assert saved(workspace) == expected


def test_a_checkpoint_that_was_due_anyway_answers_the_request(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = prepared_workspace(tmp_path)
    ask(server, FIRST, heard_in=4, patch=monkeypatch)
    train(plan(maxSteps=7, checkpoint={"everySteps": 4, "keep": 9}), workspace, Stop())
    assert saved(workspace) == ["step-7", "step-4"]


def test_a_checkpoint_of_an_older_image_knows_of_no_request(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path)
    train(plan(maxSteps=1), workspace, Stop())
    path = workspace.checkpoints / "step-1" / checkpoint.STATE
    state: dict[str, Any] = json.loads(path.read_bytes())
    assert state.pop("checkpoint_requested_at") is None
    assert checkpoint.Position.from_state(state).checkpoint_requested_at is None


@pytest.mark.timeout(300)
def test_all_ranks_save_after_the_same_step(server: Server, tmp_path: Path) -> None:
    """Each has a slice of what is saved: one that saved alone would wait for the other's."""
    workspace = prepared_workspace(tmp_path / "run")
    run = plan(maxSteps=60, checkpoint=NEVER)
    shared = Parallelism(strategy=Strategy.FSDP)
    server.ask_for_checkpoint(FIRST)
    ended = run_to_its_end(
        workspace,
        run.model_copy(update={"parallelism": shared}),
        slowly,
        FINETUNE_PROCESSES_PER_NODE="2",
        KUBEFLOW_TRAINER_SERVER_URL=f"http://{server.address}",
        FINETUNE_PROGRESS_SECONDS="0",
    )
    assert ended.outcome is Outcome.SUCCEEDED, ended.log
    last, asked = saved(workspace)
    assert last == "step-60"
    assert f"saving after {asked.replace('-', ' ')}: asked for {FIRST}" in ended.log

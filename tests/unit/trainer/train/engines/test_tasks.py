"""Every task learns under several ranks what it learns under one, whatever a rank holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from unit.trainer.train.engines.ranks import Job, work_through
from unit.trainer.train.made import plan, prepared_workspace
from unit.trainer.train.objectives.test_every_task import CASES
from unit.trainer.train.runs import evaluations, losses, weights

pytestmark = pytest.mark.timeout(900)

METHODS: dict[str, dict[str, Any]] = {
    "lora": {"lora": {"rank": 4, "alpha": 8, "dropout": "0"}},
    "full": {"full": {}},
}
ENGINES: dict[str, dict[str, Any]] = {
    "ddp": {"strategy": "DDP"},
    "fsdp": {"strategy": "FSDP"},
    "zero3": {"strategy": "DeepSpeed", "deepspeed": {"stage": 3}},
}
# The last step of an epoch has a single sequence: the second rank then has none.
TRAINING = {"epochs": 2, "packing": False, "sequencesPerStep": 12}
# With one epoch the reference is computed on the way, by a model whose adapters are switched off.
ONCE = "dpo once"
TASKS = CASES | {ONCE: CASES["dpo"]}
SAMPLED = "samples"
LEARNED = [
    ("dpo", "lora", "ddp"),
    ("dpo", "lora", "zero3"),
    ("dpo", "full", "fsdp"),
    (ONCE, "lora", "fsdp"),
    (ONCE, "lora", "zero3"),
    ("orpo", "lora", "fsdp"),
    ("kto", "lora", "ddp"),
    ("kto", "lora", "fsdp"),
    ("kto", "full", "zero3"),
    ("classes", "lora", "fsdp"),
    ("classes", "full", "zero3"),
    ("tags", "lora", "ddp"),
    ("tags", "full", "fsdp"),
]
SHARED = ("fsdp", "zero3")


def job(root: Path, task: str, method: str, engine: str | None) -> Job:
    """A training of `task` by two ranks, by one alone without an `engine`."""
    directory = root / _name(task, method, engine)
    if task == SAMPLED:
        prepared_workspace(directory)
        run = plan(METHODS[method], maxSteps=2, evaluateEverySteps=2, samplesAtEvaluation=1)
    else:
        TASKS[task].workspace(directory)
        epochs = {"epochs": 1} if task == ONCE else {}
        run = TASKS[task].plan(METHODS[method], **{**TRAINING, **epochs})
    document = json.loads(run.model_dump_json(by_alias=True))
    parallelism = ENGINES[engine] if engine else {}
    return Job(str(directory), {**document, "parallelism": parallelism}, 2 if engine else 1)


def _name(task: str, method: str, engine: str | None) -> str:
    return f"{task}-{method}-{engine or 'one'}"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of them have been trained."""
    root = tmp_path_factory.mktemp("tasks")
    alone = dict.fromkeys((task, method) for task, method, _ in LEARNED)
    work_through(
        [
            *[job(root, task, method, None) for task, method in alone],
            job(root, SAMPLED, "lora", None),
            *[job(root, *each) for each in LEARNED],
            *[job(root, SAMPLED, "lora", engine) for engine in SHARED],
        ],
        root,
    )
    return root


@pytest.mark.parametrize(("task", "method", "engine"), LEARNED)
def test_two_ranks_learn_what_one_learns(task: str, method: str, engine: str, root: Path) -> None:
    one, two = (Job(str(root / _name(task, method, each)), {}).workspace for each in (None, engine))
    assert losses(two) == pytest.approx(losses(one), rel=1e-5, abs=1e-5)
    assert len(evaluations(one)) == 2
    for mine, theirs in zip(evaluations(two), evaluations(one), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
    expected, found = weights(one), weights(two)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        # Adam divides by the gradient's size, and with it what rounding did to the smallest.
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-4, msg=name)


@pytest.mark.parametrize("engine", SHARED)
def test_a_model_in_slices_answers_as_a_whole_one(engine: str, root: Path) -> None:
    one, two = (
        Job(str(root / _name(SAMPLED, "lora", each)), {}).workspace.logs / "samples.jsonl"
        for each in (None, engine)
    )
    assert len(one.read_text().splitlines()) == 2
    assert two.read_text() == one.read_text()

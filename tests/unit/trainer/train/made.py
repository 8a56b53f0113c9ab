"""A prepared workspace for tests of `train`: a tiny model, random examples, a plan."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune_trainer.data.answers import answers_of, example_of
from finetune_trainer.data.examples import Block, Example, write_examples
from finetune_trainer.run import Run
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace
from unit.trainer.tiny import VOCABULARY, write_tiny_model

REPOSITORY = Path(__file__).parents[4]
PLAN_HASH = "0f4c2b6a9d31"


def random_examples(count: int, seed: int = 0, longest: int = 24) -> list[Example]:
    """Documents of unequal lengths that can be learned: each counts on from a random start."""
    random = np.random.default_rng(seed)
    examples = []
    for _ in range(count):
        length = int(random.integers(4, longest + 1))
        start = int(random.integers(4, len(VOCABULARY)))
        tokens = (4 + (start + np.arange(length)) % (len(VOCABULARY) - 4)).astype(np.int32)
        supervised = np.arange(length) >= length // 3
        examples.append(Example(tokens=tokens, supervised=supervised))
    return examples


def preference_pairs(count: int, seed: int = 0, longest: int = 16) -> list[Example]:
    """Pairs with a common beginning: the preferred answer counts on, the rejected one backwards."""
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        start, prompt = int(random.integers(12)), int(random.integers(1, 5))
        answers = []
        for direction in (1, -1):
            length = prompt + int(random.integers(1, longest - prompt + 1))
            steps = np.arange(length)
            steps[prompt:] = prompt - 1 + direction * np.arange(1, length - prompt + 1)
            tokens = (4 + (start + steps) % (len(VOCABULARY) - 4)).astype(np.int32)
            answers.append((tokens, np.arange(length) >= prompt))
        tokens, supervised = (np.concatenate(parts) for parts in zip(*answers, strict=True))
        labels = np.array([len(answers[0][0])], dtype=np.int32)
        pairs.append(Example(tokens, supervised, labels))
    return pairs


def judged_answers(count: int, seed: int = 0, longest: int = 16) -> list[Example]:
    """What is preferred in such pairs, or rejected, one by one; every fourth is a whole pair. A
    step of one of them reaches every weight: none is so short that nothing is attended to.
    """
    examples: list[Example] = []
    for pair in preference_pairs(3 * count, seed, longest):
        answers, index = answers_of(pair), len(examples)
        if index == count or min(len(answer.tokens) for answer in answers) < 4:
            continue
        only = answers[index % 2]
        one = example_of(only, None) if only.labels[0] else example_of(None, only)
        examples.append(one if index % 4 else pair)
    return examples


LABELS = ("O", "B-UP", "I-UP", "B-DOWN", "I-DOWN")
# What `prepare` tells the model's configuration of them.
LABELLED_MODEL: dict[str, Any] = {
    "classifier_dropout": 0.0,
    "id2label": dict(enumerate(LABELS)),
    "label2id": {name: number for number, name in enumerate(LABELS)},
}


def labelled_documents(count: int, seed: int = 0, longest: int = 16) -> list[Example]:
    """Documents of low tokens or of high ones: of which kind is their label."""
    random = np.random.default_rng(seed)
    examples = []
    for _ in range(count):
        length, label = int(random.integers(3, longest + 1)), int(random.integers(2))
        tokens = (20 + 40 * label + random.integers(10, size=length)).astype(np.int32)
        marked = np.arange(length) == length - 1
        examples.append(Example(tokens, marked, np.array([1 + 2 * label], dtype=np.int32)))
    return examples


def tagged_documents(count: int, seed: int = 0, longest: int = 16) -> list[Example]:
    """Documents of low tokens with runs of high ones in them, which are entities; every second
    token is the rest of a word and has no label.
    """
    random = np.random.default_rng(seed)
    examples = []
    for _ in range(count):
        length = int(random.integers(4, longest + 1))
        high = random.integers(2, size=length) == 1
        tokens = np.where(high, 60, 20) + random.integers(10, size=length)
        marked = np.arange(length) % 2 == 0
        labels = np.where(high, np.where(np.roll(high, 2) & (np.arange(length) > 1), 2, 1), 0)
        examples.append(Example(tokens.astype(np.int32), marked, labels[marked].astype(np.int32)))
    return examples


def prepared_workspace(
    root: Path,
    *,
    train: int = 23,
    validation: int = 6,
    examples: Callable[[int, int], list[Example]] = random_examples,
    **model: Any,
) -> Workspace:
    """What `prepare` leaves."""
    workspace = Workspace(root)
    write_tiny_model(workspace.model, **model)
    for seed, (name, count) in enumerate({"train": train, "validation": validation}.items()):
        if count:
            directory = workspace.data / name
            directory.mkdir(parents=True)
            made = Block.of(examples(count, seed))
            write_examples(directory, [made], labelled=bool(made.label_counts.any()))
    (workspace.data / "meta.json").write_text(json.dumps({"planHash": PLAN_HASH}))
    workspace.plan_hash.write_text(PLAN_HASH)
    return workspace


def plan(method: dict[str, Any] | None = None, *, task: str = "Generation", **training: Any) -> Run:
    """The contract's example with a tiny training; `training` by the names of `run.json`."""
    document = json.loads((REPOSITORY / "docs/examples/run.json").read_bytes())
    document["planHash"] = PLAN_HASH
    document["task"] = task
    document["method"] = method or {"lora": {"rank": 4, "alpha": 8, "dropout": "0"}}
    document["training"] |= {
        "sequencesPerStep": 4,
        "sequenceLength": 32,
        "learningRate": "1e-2",
        "precision": "Float32",
        "checkpoint": {"everySteps": 0, "keep": 2},
        **training,
    }
    return Run.model_validate(document)


class StopAfter(Stop):
    """SIGTERM arrives while step `step` is computed."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._left = step

    def arm(self, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> StopAfter:
        original = recipe.seed_step

        def seed_step(seed: int, step: int, rank: int) -> None:
            if step + 1 == self._left:
                signal.raise_signal(signal.SIGTERM)
            original(seed, step, rank)

        monkeypatch.setattr(recipe, "seed_step", seed_step)
        self.install()
        return self


def container_environment(
    workspace: Workspace, run: Run | dict[str, Any], **environment: str
) -> dict[str, str]:
    """What a container would have, but for what this process has; `run` is in its file then."""
    run_file = workspace.root / "run.json"
    text = json.dumps(run) if isinstance(run, dict) else run.model_dump_json(by_alias=True)
    run_file.write_text(text)
    return {
        "PYTHONPATH": str(REPOSITORY / "trainer-image"),
        "FINETUNE_RUN_FILE": str(run_file),
        "FINETUNE_WORKSPACE": str(workspace.root),
        "FINETUNE_TERMINATION_LOG": str(workspace.root / "termination-log"),
        "FINETUNE_CPUS": "1",
        "HF_HUB_OFFLINE": "1",
        **environment,
    }


def trainer_process(workspace: Workspace, run: Run, **environment: str) -> subprocess.Popen[str]:
    """`python -m finetune_trainer train` as a container would start it."""
    return subprocess.Popen(
        [sys.executable, "-m", "finetune_trainer", "train"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **container_environment(workspace, run, **environment)},
    )

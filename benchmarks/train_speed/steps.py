"""From a workload to tokens and steps: prepared by our own `prepare` stage, the same for everyone.

The trainer's order is a function of seed, epoch and position; it is asked for here, so that peers
take the same documents in the same steps. That it is the same is checked by the first losses.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train_speed.workloads import Row, Workload

LEARNING_RATE = 2e-4
RANK, ALPHA = 16, 32
STEPS = 64
IGNORED = -100


class PreparationError(RuntimeError):
    """Our `prepare` stage failed; the message is its own."""


@dataclass(frozen=True, slots=True)
class Made:
    """A workload's data: rows as the peers take them, and what each step takes of them.

    `tokens` and `supervised` are per step, over the data set's tokens: a pair counts its prompt
    twice. `lengths` are those of every sequence of every step. `workspace` is ours, prepared by
    the plan `run`.
    """

    model: Path
    rows: list[Row]
    steps: list[list[int]]
    tokens: list[int]
    supervised: list[int]
    lengths: list[list[int]]
    workspace: Path
    run: dict[str, Any]


def make(workload: Workload, directory: Path) -> Made:
    """The workload's data, with our workspace below `directory`.

    Raises:
        PreparationError: our own `prepare` failed.
    """
    model = workload.model()
    rows = list(workload.rows(model))
    if workload.kind == "preference":
        return _pairs(workload, model, rows, directory)
    run = run_json(workload, model)
    workspace = prepare(run, rows, model, directory)
    return _documents(workspace, model, run)


def run_json(workload: Workload, model: Path) -> dict[str, Any]:
    """The plan of our own trainer (docs/stage-contract.md)."""
    return {
        "contractVersion": "v1alpha1",
        "name": f"bench-{workload.name}",
        "namespace": "bench",
        "planHash": f"bench-{workload.name}",
        "model": {"source": f"pvc://bench/{model.name}"},
        "dataset": {"source": "pvc://bench/rows.jsonl", "format": workload.format},
        "method": {
            "lora": {
                "rank": RANK,
                "alpha": ALPHA,
                "dropout": "0",
                "targetModules": ["all-linear"],
            }
        },
        "training": {
            "maxSteps": STEPS,
            "sequencesPerStep": workload.sequences_per_step,
            "sequenceLength": workload.sequence_length,
            "packing": True,
            "learningRate": str(LEARNING_RATE),
            "scheduler": {"type": "Constant", "warmupRatio": "0"},
            "weightDecay": "0",
            "maxGradNorm": "1",
            "seed": 0,
            "logEverySteps": 1,
            # As a run does by itself that is longer than this one.
            "compile": "Always",
            "checkpoint": {"everySteps": 0, "keep": 1},
        },
        "resources": {"nodes": 1, "gpusPerNode": 0},
    }


def stage_environment(directory: Path) -> dict[str, str]:
    """What the contract gives a stage, for a workspace below `directory`."""
    return {
        "FINETUNE_WORKSPACE": str(directory / "workspace"),
        "FINETUNE_RUN_FILE": str(directory / "run.json"),
        "FINETUNE_SOURCES": str(directory / "sources"),
        "FINETUNE_TERMINATION_LOG": str(directory / "termination-log"),
        "HF_HUB_OFFLINE": "1",
    }


def prepare(run: dict[str, Any], rows: list[Row], model: Path, directory: Path) -> Path:
    """The workspace that our `prepare` stage makes of `rows`."""
    sources = directory / "sources"
    (sources / "dataset").mkdir(parents=True)
    (sources / "model").symlink_to(model.parent)
    with (sources / "dataset" / "rows.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    (directory / "run.json").write_text(json.dumps(run))
    result = subprocess.run(
        [sys.executable, "-m", "finetune_trainer", "prepare"],
        env={**os.environ, **stage_environment(directory)},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        log = directory / "termination-log"
        said = json.loads(log.read_bytes())["message"] if log.exists() else result.stderr[-500:]
        raise PreparationError(said)
    return directory / "workspace"


def _documents(workspace: Path, model: Path, run: dict[str, Any]) -> Made:
    from finetune_trainer.data.examples import Examples
    from finetune_trainer.train.batches import supervised_targets

    examples = Examples(workspace / "data" / "train")
    steps = _steps(run, workspace)
    rows, targets = [], []
    for index in range(len(examples)):
        example = examples[index]
        labels = np.where(example.supervised, example.tokens, IGNORED).tolist()
        rows.append({"input_ids": example.tokens.tolist(), "labels": labels})
        targets.append(len(supervised_targets(example)))
    sizes = examples.lengths.tolist()
    return Made(
        model=workspace / "model",
        rows=rows,
        steps=steps,
        tokens=[sum(sizes[index] for index in step) for step in steps],
        supervised=[sum(targets[index] for index in step) for step in steps],
        lengths=[[sizes[index] for index in step] for step in steps],
        workspace=workspace,
        run=run,
    )


def _pairs(workload: Workload, model: Path, rows: list[Row], directory: Path) -> Made:
    """Equal numbers of pairs a step, since preference losses are means over pairs.

    Peers get a pair as text that the template has been applied to; they close the answers
    themselves, by the same token.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    texts = [
        {
            "prompt": tokenizer.apply_chat_template(
                row["prompt"], tokenize=False, add_generation_prompt=True
            ),
            "chosen": row["chosen"][0]["content"],
            "rejected": row["rejected"][0]["content"],
        }
        for row in rows
    ]

    def sizes(parts: list[str]) -> list[int]:
        found = tokenizer(parts, add_special_tokens=False)["input_ids"]
        return [len(tokens) for tokens in found]

    prompts = sizes([text["prompt"] for text in texts])
    # One more closes the answer.
    sides = [
        [1 + size for size in sizes([text["prompt"] + text[side] for text in texts])]
        for side in ("chosen", "rejected")
    ]
    pairs = list(zip(*sides, strict=True))
    budget = workload.sequence_length * workload.sequences_per_step
    mean = sum(map(sum, pairs)) / len(pairs)
    count = max(4, round(budget / mean / 4) * 4)
    run = run_json(workload, model)
    run["task"] = "Preference"
    run["training"] |= {"packing": False, "sequencesPerStep": count}
    workspace = prepare(run, rows, model, directory)
    steps = _steps(run, workspace, len(rows))
    return Made(
        model=model,
        rows=texts,
        steps=steps,
        tokens=[sum(sum(pairs[index]) for index in step) for step in steps],
        supervised=[
            sum(sum(pairs[index]) - 2 * prompts[index] for index in step) for step in steps
        ],
        lengths=[[size for index in step for size in pairs[index]] for step in steps],
        workspace=workspace,
        run=run,
    )


def _steps(run: dict[str, Any], workspace: Path, rows: int | None = None) -> list[list[int]]:
    """Which examples each step takes, in our trainer's order."""
    from finetune_trainer.data.examples import Examples
    from finetune_trainer.run import Run
    from finetune_trainer.train.batches import steps_from

    lengths = Examples(workspace / "data" / "train").lengths
    if rows is not None and len(lengths) != rows:
        raise PreparationError(f"{rows - len(lengths)} of {rows} rows were dropped")
    plans = steps_from(0, STEPS, lengths, Run.model_validate(run).training)
    return [[index for sequence in plan.sequences for index in sequence] for plan in plans]

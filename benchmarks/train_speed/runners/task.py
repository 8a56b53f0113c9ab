"""What a peer is asked to train, from the file that the driver wrote; shared by the runners.

The file holds token ids, labels and which documents each step takes, the same for everyone. How a
step is cut into micro-batches is each peer's: documents of like length together where it pads, or
packs of equal size where it packs.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

IGNORED = -100
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SEED = 0


@dataclass(frozen=True)
class Task:
    """One training. `rows` are documents (`input_ids`, `labels`), or pairs (`prompt`, `chosen`,
    `rejected`, as conversations); `steps` are lists of indexes into them.
    """

    model: str
    dtype: str
    kind: str
    rows: list[dict[str, Any]]
    steps: list[list[int]]
    micro_batches: int
    sequence_length: int
    learning_rate: float
    rank: int
    alpha: int
    initial_adapter: str
    threads: int

    @property
    def torch_dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.dtype == "bfloat16" else torch.float32

    @property
    def is_bfloat16(self) -> bool:
        return self.dtype == "bfloat16"


def load_task() -> Task:
    """The task in the file named by the first argument."""
    task = Task(**json.loads(Path(sys.argv[1]).read_bytes()))
    torch.set_num_threads(task.threads)
    return task


def length(row: dict[str, Any]) -> int:
    """Tokens of a document; of a pair, characters, which order it just as well."""
    if "input_ids" in row:
        return len(row["input_ids"])
    return max(len(str(row["chosen"])), len(str(row["rejected"]))) + len(str(row["prompt"]))


def by_length(task: Task) -> list[list[int]]:
    """Micro-batches in order, `task.micro_batches` a step: of like length, of about equal cost.

    This is length grouping at its best: sorted within the step, and cut so that no micro-batch
    takes much more padded room than the others. Pairs are cut by number, since preference losses
    are means over pairs.
    """
    batches = []
    for step in task.steps:
        order = sorted(step, key=lambda index: length(task.rows[index]))
        lengths = [length(task.rows[index]) for index in order]
        cuts = (
            [round(part * len(order) / task.micro_batches) for part in range(1, task.micro_batches)]
            if task.kind == "preference"
            else _even_cuts(lengths, task.micro_batches)
        )
        edges = [0, *cuts, len(order)]
        batches += [order[a:b] for a, b in pairwise(edges)]
    return batches


def _even_cuts(lengths: list[int], parts: int) -> list[int]:
    """Where to cut a sorted list so that its parts have about equal sums, none empty."""
    total, done = sum(lengths), 0
    cuts: list[int] = []
    for position, size in enumerate(lengths):
        left = parts - 1 - len(cuts)
        if not left:
            break
        reached = done >= total * (len(cuts) + 1) / parts
        if position and (reached or len(lengths) - position <= left):
            cuts.append(position)
        done += size
    return cuts


def packs(task: Task) -> list[list[int]]:
    """Packs in order, `task.micro_batches` a step, of about equal size: longest first, each into
    the emptiest.
    """
    batches = []
    for step in task.steps:
        groups: list[list[int]] = [[] for _ in range(task.micro_batches)]
        sums = [0] * task.micro_batches
        for index in sorted(step, key=lambda index: -length(task.rows[index])):
            emptiest = sums.index(min(sums))
            groups[emptiest].append(index)
            sums[emptiest] += length(task.rows[index])
        batches += groups
    return batches


def start_alike(model: torch.nn.Module, task: Task) -> None:
    """Give the adapters the values that everybody starts from; the first one here sets them.

    Values are matched by the name of the module in the base model.
    """
    parameters = {
        name.split("model.", 1)[-1].replace(".default", ""): parameter
        for name, parameter in model.named_parameters()
        if ".lora_A." in name
    }
    path = Path(task.initial_adapter)
    if not path.exists():
        save_file({name: value.detach().float() for name, value in parameters.items()}, path)
        return
    with torch.no_grad():
        for name, value in load_file(path).items():
            _matching(parameters, name).copy_(value)


def _matching(parameters: dict[str, Any], name: str) -> Any:
    found = [key for key in parameters if key.endswith(name) or name.endswith(key)]
    if len(found) != 1:
        raise LookupError(f"{name} is {len(found)} of this peer's adapters")
    return parameters[found[0]]

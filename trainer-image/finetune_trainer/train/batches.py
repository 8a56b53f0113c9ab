"""From index lists to tensors: which sequences a step takes, how they become micro-batches, what a
model is given.

The order is a function of seed, epoch and position alone; how many ranks and micro-batches share a
step changes nothing in what is learned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from finetune_trainer.data.examples import Example, Examples, Tokens
from finetune_trainer.data.packing import best_fit, plan_epoch, steps_per_epoch
from finetune_trainer.run import Training
from finetune_trainer.train.speed.layout import Layout, plan_layout
from finetune_trainer.train.speed.prefixes import (
    common_lengths,
    lexicographic,
    new_tokens,
    separate,
    share,
)

IGNORED_POSITION = 0


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One optimizer step: its sequences (lists of example indexes) and the epochs done when it is
    done.
    """

    sequences: list[list[int]]
    epoch: float

    @property
    def documents(self) -> list[int]:
        """All examples of the step."""
        return [index for sequence in self.sequences for index in sequence]


def steps_from(
    first: int, total: int, lengths: NDArray[np.int64], training: Training
) -> Iterator[StepPlan]:
    """The plans of the steps `first` … `total - 1`, counted from 0 over the whole run."""
    step = 0
    epoch = 0
    while step < total:
        sequences = plan_epoch(
            lengths,
            capacity=training.sequence_length,
            packing=training.packing,
            seed=training.seed,
            epoch=epoch,
        )
        count = steps_per_epoch(len(sequences), training.sequences_per_step)
        if (passed := (first - step) // count) > 0:
            # Every epoch has as many steps: those in between need not be planned.
            step, epoch = step + passed * count, epoch + passed
            continue
        for index in range(max(0, first - step), min(count, total - step)):
            start = index * training.sequences_per_step
            yield StepPlan(
                sequences=sequences[start : start + training.sequences_per_step],
                epoch=epoch + (index + 1) / count,
            )
        step += count
        epoch += 1


def micro_batches(
    packs: list[list[int]], lengths: NDArray[np.int64], *, capacity: int, padded: bool
) -> list[list[int]]:
    """The documents of every forward pass, of at most `capacity` token positions each.

    A pass costs the sum of its lengths, so packs stay whole, and small ones share a pass. When
    `padded`, every document takes the room of the longest, and packs mean nothing.
    """
    if padded:
        return _of_like_length([index for pack in packs for index in pack], lengths, capacity)
    sizes = np.array([lengths[pack].sum() for pack in packs], dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    together = best_fit(sizes[order], capacity)
    batches: list[list[int]] = [[] for _ in range(int(together.max(initial=-1)) + 1)]
    for pack, batch in zip(order.tolist(), together.tolist(), strict=True):
        batches[batch].extend(packs[pack])
    return batches


def _of_like_length(
    documents: list[int], lengths: NDArray[np.int64], capacity: int
) -> list[list[int]]:
    batches: list[list[int]] = []
    longest = 0
    for index in sorted(documents, key=lambda document: -int(lengths[document])):
        if not batches or longest * (len(batches[-1]) + 1) > capacity:
            batches.append([])
            longest = int(lengths[index])
        batches[-1].append(index)
    return batches


def sharing_batches(
    packs: list[list[int]], unit_of: Callable[[int], list[Tokens]], *, capacity: int
) -> list[list[int]]:
    """The same for rows that hold common beginnings once; `unit_of` an example are the documents in
    it, which stay together.

    Examples that begin alike are put together, and counted as what they add to the row; passes are
    about equally large.
    """
    examples = [index for pack in packs for index in pack]
    units = [unit_of(index) for index in examples]
    firsts = [unit[0] for unit in units]
    order = lexicographic(firsts)
    common = common_lengths(firsts, order)
    sizes = [
        new_tokens(units[place], int(known)) for place, known in zip(order, common, strict=True)
    ]
    even = sum(sizes) / max(1, -(-sum(sizes) // capacity))
    batches: list[list[int]] = []
    size = capacity
    for place, added in zip(order, sizes, strict=True):
        if size + added > capacity or size >= even:
            batches.append([])
            size, added = 0, new_tokens(units[place], 0)
        batches[-1].append(examples[place])
        size += added
    return batches


@dataclass(frozen=True, slots=True)
class Batch:
    """What one forward pass is given.

    `input_ids` and `position_ids` are [rows, T]; `attention_mask` has the same shape, or is None
    when all documents lie in one row and `layout` tells which token sees which. `positions` [n]
    index the flattened [rows * T] hidden states whose predictions are trained, `targets` [n] are
    the tokens to predict. `tokens` counts the documents' tokens, one that several documents share
    for each of them.
    """

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor | None
    layout: Layout | None
    positions: Tensor
    targets: Tensor
    tokens: int


def supervised_targets(example: Example) -> NDArray[np.int64]:
    """Indexes of the tokens to predict: the supervised ones, but never the first, which nothing
    precedes.
    """
    indexes = np.flatnonzero(example.supervised)
    return indexes[indexes > 0]


def count_targets(examples: Examples, documents: list[int]) -> int:
    """How many predictions are trained in `documents`."""
    return sum(len(supervised_targets(examples[index])) for index in documents)


def collate(
    documents: list[Example],
    *,
    padded: bool,
    device: torch.device,
    shared: bool = False,
    supervised: bool = True,
) -> Batch:
    """Tensors for `documents`: in one row, or `padded` in one row each.

    With `shared`, what documents have in common at their beginning is in the row once. Without
    `supervised` no prediction is trained: a pass that only takes part in a collective operation.
    """
    forest = None
    if padded:
        longest = max(len(document.tokens) for document in documents)
        shape = (len(documents), longest)
        rows = [
            row * longest + np.arange(len(document.tokens))
            for row, document in enumerate(documents)
        ]
    else:
        tokens = [document.tokens for document in documents]
        forest = share(tokens) if shared else separate(tokens)
        shape = (1, len(forest.tokens))
        rows = list(forest.rows)
    input_ids = np.zeros(shape[0] * shape[1], dtype=np.int64)
    position_ids = np.full_like(input_ids, IGNORED_POSITION)
    mask = np.zeros_like(input_ids)
    positions, targets = [], []
    for document, places in zip(documents, rows, strict=True):
        input_ids[places] = document.tokens
        position_ids[places] = np.arange(len(places))
        mask[places] = 1
        if supervised:
            indexes = supervised_targets(document)
            positions.append(places[indexes - 1])
            targets.append(np.asarray(document.tokens[indexes], dtype=np.int64))

    def tensor(array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(device, non_blocking=True)

    empty = np.empty(0, dtype=np.int64)
    return Batch(
        input_ids=tensor(input_ids.reshape(shape)),
        position_ids=tensor(position_ids.reshape(shape)),
        attention_mask=tensor(mask.reshape(shape)) if padded else None,
        layout=plan_layout(forest, device) if forest is not None else None,
        positions=tensor(np.concatenate([empty, *positions])),
        targets=tensor(np.concatenate([empty, *targets])),
        tokens=sum(len(document.tokens) for document in documents),
    )

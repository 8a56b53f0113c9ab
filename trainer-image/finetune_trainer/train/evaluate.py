"""The loss of the validation split, shared among the ranks."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from finetune_trainer.data.examples import Examples
from finetune_trainer.train.parallel import Group
from finetune_trainer.train.setup import Trained


def validation_loss(
    trained: Trained, examples: Examples, group: Group, between: Callable[[], None]
) -> float:
    """Mean loss per supervised token of `examples`, each token counted once; NaN or infinite where
    the model computes that.

    All ranks call `between` together before every forward pass; it may raise to end the evaluation.
    """
    objective = trained.objective
    trained.model.eval()
    batches = objective.batches(examples, [[index] for index in range(len(examples))])
    total = torch.zeros((), dtype=torch.float64, device=group.device)
    count = 0
    for start in range(0, len(batches), group.world_size):
        between()
        if start + group.rank < len(batches):
            documents = batches[start + group.rank]
            total += trained.engine.loss(objective.collate(examples, documents))
            count += objective.targets(examples, documents)
    summed, targets = group.sum([float(total), float(count)])
    return summed / max(1.0, targets) if math.isfinite(summed) else summed

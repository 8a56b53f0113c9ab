"""What the held-out examples say of a model, shared among the ranks.

What is counted on them is the objective's; here the counts of all ranks become one answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from finetune_trainer.data.examples import Examples
from finetune_trainer.train.parallel import Group
from finetune_trainer.train.setup import Trained


def evaluate(
    trained: Trained, examples: Examples, group: Group, between: Callable[[], None]
) -> dict[str, float]:
    """`loss`, the mean over all targets of `examples`, and the objective's other metrics by name;
    only the loss, NaN or infinite, where the model computes that.

    All ranks call `between` together before every forward pass; it may raise to end the evaluation.
    """
    objective = trained.objective
    trained.model.eval()
    packs = [[index] for index in range(len(examples))]
    objective.look_ahead(examples, packs, trained.engine, group, between)
    batches = objective.batches(examples, packs)
    total = torch.zeros(1 + objective.counts, dtype=torch.float64, device=group.device)
    count = 0
    for place, own in group.turns(len(batches)):
        between()
        documents = batches[place] if own else batches[place][:1]
        batch = objective.collate(examples, documents, supervised=own)
        sums = trained.engine.evaluate(objective.measure, batch)
        if own:
            total += sums
            count += objective.targets(examples, documents)
    summed, *counted, targets = group.sum([*total.tolist(), float(count)])
    if not math.isfinite(summed):
        return {"loss": summed}
    return {"loss": summed / max(1.0, targets), **objective.metrics(counted, max(1.0, targets))}

"""A step's gradient does not depend on how its documents are cut into passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_trainer.run import Run
from finetune_trainer.train.batches import steps_from
from finetune_trainer.train.outlets import open_journal
from finetune_trainer.train.parallel import Group, Ranks
from finetune_trainer.train.passes import passes_of
from finetune_trainer.train.setup import Context, load_data, load_model
from finetune_trainer.workspace import Workspace
from unit.trainer.train.made import plan, prepared_workspace

# LoRA's A would have no gradient: its B begins as zero.
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"lora": {"rank": 4, "alpha": 8, "initialization": "Orthogonal"}},
    "full": {"full": {}},
}


def first_step(workspace: Workspace, run: Run) -> tuple[int, float, torch.Tensor]:
    """How many passes it takes, its loss, and all of its gradient."""
    group = Group(Ranks(), torch.device("cpu"))
    with open_journal(run, workspace, active=False) as journal:
        context = Context(run, workspace, group, journal)
        data, trained = load_data(context), load_model(context)
    (step,) = steps_from(0, 1, data.train.lengths, run.training)
    mine, passes = passes_of(trained.objective, data.train, step.sequences, group)
    weight = 1 / trained.objective.targets(data.train, step.documents)
    trained.model.train()
    trained.engine.start_step()
    loss = sum(
        float(trained.engine.backward(trained.objective.step, batch, weight=weight, last=last)[0])
        for batch, last in passes
    )
    parameters = trained.engine.parameters.values()
    return len(mine), loss * weight, torch.cat([each.grad.flatten() for each in parameters])


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_loss_and_gradient_are_the_same_however_it_is_cut(
    method: dict[str, Any], tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    workspace = prepared_workspace(tmp_path)
    one, several = (
        first_step(
            workspace,
            plan(method, packing=False, sequencesPerStep=11, sequenceLength=length),
        )
        for length in (512, 25)
    )
    assert one[0] == 1 < several[0]
    assert several[1] == pytest.approx(one[1], rel=1e-6)
    assert (several[2] - one[2]).norm() <= 1e-6 * one[2].norm()
    assert one[2].norm() > 0

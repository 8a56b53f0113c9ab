"""Which engine a run gets, and the reason that it is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_trainer.outcome import UserError
from finetune_trainer.run import Run, Strategy
from finetune_trainer.train.engines import choice
from finetune_trainer.train.engines.choice import choose
from finetune_trainer.train.parallel import Group, Ranks
from finetune_trainer.workspace import Workspace
from unit.trainer.tiny import write_tiny_model
from unit.trainer.train.made import plan


class Two(Group):
    """Two ranks, of which the other one has `others` bytes."""

    def __init__(self, others: float) -> None:
        super().__init__(Ranks(world_size=2), torch.device("cpu"))
        self._others = others

    def maximum(self, value: float) -> float:
        return max(value, -self._others)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    write_tiny_model(workspace.model)
    return workspace


def asking(**parallelism: Any) -> Run:
    run = plan().model_dump(mode="json", by_alias=True)
    return Run.model_validate({**run, "parallelism": parallelism})


def chosen(run: Run, group: Group, workspace: Workspace) -> choice.Choice:
    return choose(run, group, workspace, torch.float32)


def test_ddp_where_model_and_training_state_fit_each_process(workspace: Workspace) -> None:
    found = chosen(asking(), Two(others=64 * 2**30), workspace)
    assert found.strategy is Strategy.DDP
    assert "fit each process: 1.0 GiB estimated" in found.why


def test_fsdp_where_they_do_not_fit_one_of_them(workspace: Workspace) -> None:
    found = chosen(asking(), Two(others=2**30), workspace)
    assert found.strategy is Strategy.FSDP
    assert "do not fit one process: 1.0 GiB estimated, 1.0 GiB there" in found.why


def test_one_process_has_nothing_to_share(workspace: Workspace) -> None:
    found = chosen(asking(), Group(Ranks(), torch.device("cpu")), workspace)
    assert found == choice.Choice(Strategy.DDP, "a single process has nothing to share")


def test_what_is_asked_for_is_taken_whatever_fits(workspace: Workspace) -> None:
    found = chosen(asking(strategy="FSDP"), Two(others=64 * 2**30), workspace)
    assert found == choice.Choice(Strategy.FSDP, "spec.parallelism.strategy", in_slices=True)
    found = chosen(asking(strategy="DeepSpeed"), Two(others=64 * 2**30), workspace)
    assert found == choice.Choice(Strategy.DEEPSPEED, "spec.parallelism.strategy", in_slices=True)


def test_quantized_weights_are_shared_by_fsdp_alone(workspace: Workspace) -> None:
    def quantized(strategy: str) -> Run:
        run = asking(strategy=strategy).model_dump(mode="json", by_alias=True)
        run["method"]["lora"]["quantization"] = "NF4"
        return Run.model_validate(run)

    scarce = Two(others=2**30)
    assert chosen(quantized("Auto"), scarce, workspace).strategy is Strategy.FSDP
    assert chosen(quantized("FSDP"), scarce, workspace).in_slices
    with pytest.raises(UserError, match=r"DeepSpeed in stage 3 cannot share .* quantization"):
        chosen(quantized("DeepSpeed"), scarce, workspace)


@pytest.mark.parametrize("method", [{"ia3": {}}, {"prompt": {}}, {"prefix": {}}, {"pTuning": {}}])
def test_factors_and_virtual_tokens_are_trained_by_ddp_alone(
    method: dict[str, Any], workspace: Workspace
) -> None:
    run = asking().model_dump(mode="json", by_alias=True) | {"method": method}
    found = chosen(Run.model_validate(run), Two(others=0), workspace)
    assert found.strategy is Strategy.DDP
    (name,) = method
    for strategy in ("FSDP", "DeepSpeed"):
        asked = Run.model_validate({**run, "parallelism": {"strategy": strategy}})
        with pytest.raises(
            UserError,
            match=rf"spec\.parallelism\.strategy {strategy} .* spec\.method\.{name}: set the",
        ):
            chosen(asked, Two(others=0), workspace)


def test_adafactor_is_trained_by_ddp(workspace: Workspace) -> None:
    run = plan(optimizer={"type": "Adafactor"})
    assert chosen(run, Two(others=0), workspace).strategy is Strategy.DDP

"""Which engine a run gets, and why: the one asked for, or by a memory estimate.

Nothing is tried out: what a process has and what it would need are compared once, before anything
is loaded, and all ranks agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import AutoConfig, PreTrainedModel

from finetune_trainer.outcome import UserError
from finetune_trainer.prepare.memory import count_parameters, estimate_memory
from finetune_trainer.run import Precision, Run, Strategy
from finetune_trainer.train.device import available_memory_bytes
from finetune_trainer.train.engines.engine import Engine, MakeOptimizer
from finetune_trainer.train.engines.replicated import Replicated
from finetune_trainer.train.engines.sharded import Sharded
from finetune_trainer.train.parallel import Group
from finetune_trainer.workspace import Workspace

# What an estimate may be wrong by, and an allocator lose between its blocks.
USABLE_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Choice:
    """A strategy, never `Auto`, a reason for people, and whether a rank holds, and so reads, only
    slices of the model.
    """

    strategy: Strategy
    why: str
    in_slices: bool = False


def choose(run: Run, group: Group, workspace: Workspace, dtype: torch.dtype) -> Choice:
    """The strategy of `run`, the same on all ranks; `dtype` is the format of matrix products.

    Raises:
        UserError: the strategy asked for cannot train this.
    """
    asked = run.parallelism.strategy
    quantized = run.method.quantization is not None
    if quantized and asked is Strategy.DEEPSPEED and run.parallelism.in_slices:
        raise UserError(
            "spec.parallelism.strategy DeepSpeed in stage 3 cannot share weights that "
            f"spec.method.{run.method.name}.quantization packs: set the strategy to FSDP or DDP, "
            "or remove quantization."
        )
    if not (run.method.lora or run.method.adapter or run.method.full):
        if asked in (Strategy.FSDP, Strategy.DEEPSPEED):
            raise UserError(
                f"spec.parallelism.strategy {asked} is for spec.method.lora, adapter and full, and "
                f"not for spec.method.{run.method.name}: set the strategy to DDP."
            )
        return Choice(Strategy.DDP, "the others are for lora, adapter and full")
    if run.training.optimizer.type == "Adafactor":
        if asked in (Strategy.FSDP, Strategy.DEEPSPEED):
            raise UserError(
                f"spec.parallelism.strategy {asked} has parts of matrices, and spec.training."
                "optimizer Adafactor needs whole ones: set the strategy to DDP, or the optimizer's "
                "type to AdamW."
            )
        if asked is Strategy.AUTO:
            return Choice(Strategy.DDP, "Adafactor needs whole matrices")
    if asked is not Strategy.AUTO:
        return Choice(asked, "spec.parallelism.strategy", run.parallelism.in_slices)
    if group.world_size == 1:
        return Choice(Strategy.DDP, "a single process has nothing to share")
    known = Precision.FLOAT32 if dtype is torch.float32 else Precision.BFLOAT16
    training = run.training.model_copy(update={"precision": known})
    config = AutoConfig.from_pretrained(workspace.model, local_files_only=True)
    need = estimate_memory(
        config, count_parameters(config, run), run.model_copy(update={"training": training})
    ).total
    have = -group.maximum(-available_memory_bytes(group.device, group.local_world_size))
    figures = f"{_gib(need)} estimated, {_gib(have)} there a process"
    if need <= USABLE_SHARE * have:
        return Choice(Strategy.DDP, f"model and training state fit each process: {figures}")
    why = f"model and training state do not fit one process: {figures}"
    return Choice(Strategy.FSDP, why, in_slices=True)


def make_engine(
    choice: Choice,
    run: Run,
    model: PreTrainedModel,
    optimizer: MakeOptimizer,
    group: Group,
    frozen: torch.dtype,
) -> Engine:
    """The engine of `choice` around `model`, which it places."""
    if choice.strategy is Strategy.FSDP:
        return Sharded(
            model,
            optimizer,
            group,
            settings=run.parallelism.fsdp,
            frozen=frozen,
        )
    if choice.strategy is Strategy.DEEPSPEED:
        from finetune_trainer.train.engines.deepspeed import Zero

        return Zero(model, optimizer, group, settings=run.parallelism.deepspeed, frozen=frozen)
    return Replicated(model, optimizer, group)


def _gib(count: float) -> str:
    return f"{count / 2**30:.1f} GiB"

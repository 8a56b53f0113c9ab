"""Transformers' `Trainer` and what is built on it, told to take exactly the steps of the task.

Everything that TRL's and Unsloth's trainers share with it: the arguments, the order of batches, and
the reports to the driver.
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from pace import Pace
from task import Task


def arguments(task: Task, **more: Any) -> dict[str, Any]:
    """What every trainer is told; documented settings for speed are in `more`."""
    use_cpu = not torch.cuda.is_available()
    return {
        "output_dir": tempfile.mkdtemp(),
        "max_steps": len(task.steps),
        "gradient_accumulation_steps": task.micro_batches,
        "learning_rate": task.learning_rate,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",
        "bf16": task.is_bfloat16,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "logging_first_step": True,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": not use_cpu,
        "use_cpu": use_cpu,
        "seed": 0,
        **more,
    }


class Losses(TrainerCallback):  # type: ignore[misc]  # the peers' libraries are not here
    """Tells the driver each step's loss as the trainer logs it."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self._pace.tell_loss(int(state.global_step), float(logs["loss"]))


def in_order(trainer: Any, batches: list[list[int]]) -> Any:
    """Make `trainer` take these micro-batches of its data set, in this order."""

    def loader() -> Any:
        trainer._set_signature_columns_if_needed()
        data = trainer.train_dataset
        unknown = set(data.column_names) - set(trainer._signature_columns or data.column_names)
        made = DataLoader(
            data.remove_columns(sorted(unknown)),
            batch_sampler=batches,
            collate_fn=trainer.data_collator,
        )
        return trainer.accelerator.prepare(made)

    trainer.get_train_dataloader = loader
    return trainer

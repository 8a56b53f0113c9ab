"""TRL: `SFTTrainer` on packs made by its own best-fit packing, `DPOTrainer` on pairs.

Gradient checkpointing, TRL's default, is off: nobody here needs the memory.
"""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset, concatenate_datasets
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer, pack_dataset

from hf_trainer import Losses, arguments, in_order
from pace import Pace
from task import SEED, Task, by_length, length, load_task, packs, start_alike


def packed(task: Task) -> Dataset:
    """One row a micro-batch: the documents of a pack behind each other, with their lengths."""
    made = []
    for pack in packs(task):
        rows = [task.rows[index] for index in pack]
        total = sum(length(row) for row in rows)
        made.append(pack_dataset(Dataset.from_list(rows), seq_length=total, strategy="bfd"))
    return concatenate_datasets(made)


def sft(task: Task, model: Any, pace: Pace) -> Any:
    """The trainer for documents; a row of a pack attends within its documents."""
    settings = SFTConfig(
        **arguments(task, per_device_train_batch_size=1),
        max_length=None,
        padding_free=True,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    data = packed(task)
    trainer = SFTTrainer(
        model=model,
        args=settings,
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(task.model),
        callbacks=[Losses(pace)],
    )
    return in_order(trainer, [[row] for row in range(len(data))])


def dpo(task: Task, model: Any, pace: Pace) -> Any:
    """The trainer for pairs; the reference is the model without its adapter."""
    settings = DPOConfig(**arguments(task, per_device_train_batch_size=1), max_length=None)
    trainer = DPOTrainer(
        model=model,
        args=settings,
        train_dataset=Dataset.from_list(task.rows),
        processing_class=AutoTokenizer.from_pretrained(task.model),
        callbacks=[Losses(pace)],
    )
    return in_order(trainer, by_length(task))


def main() -> None:
    """Train until the driver has seen enough."""
    pace = Pace()
    task = load_task()
    base = AutoModelForCausalLM.from_pretrained(task.model, dtype=task.torch_dtype)
    torch.manual_seed(SEED)
    lora = LoraConfig(
        r=task.rank, lora_alpha=task.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = get_peft_model(base, lora)
    start_alike(model, task)
    trainer = (dpo if task.kind == "preference" else sft)(task, model, pace)
    pace.start()
    trainer.train()


if __name__ == "__main__":
    main()

"""Transformers' `Trainer` with PEFT: documents of like length in a batch, padded.

Also the reference of the parity check, in float32.
"""

from __future__ import annotations

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainingArguments,
)

from hf_trainer import Losses, arguments, in_order
from pace import Pace
from task import SEED, by_length, load_task, start_alike


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
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**arguments(task, per_device_train_batch_size=1)),
        train_dataset=Dataset.from_list(task.rows),
        data_collator=DataCollatorForSeq2Seq(AutoTokenizer.from_pretrained(task.model)),
        callbacks=[Losses(pace)],
    )
    in_order(trainer, by_length(task))
    pace.start()
    trainer.train()


if __name__ == "__main__":
    main()

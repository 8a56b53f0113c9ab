"""Unsloth on the CPU (or CUDA), by its public interface; compiled where the driver asks for it by
UNSLOTH_CPU_COMPILE=1.
"""

from __future__ import annotations

import unsloth  # isort: skip  # noqa: F401  # before all that it changes

from typing import Any

from datasets import Dataset
from transformers import DataCollatorForSeq2Seq
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from unsloth import FastLanguageModel

from hf_trainer import Losses, arguments, in_order
from pace import Pace
from task import LINEAR, SEED, Task, by_length, load_task, start_alike


def trainer_of(task: Task, model: Any, tokenizer: Any, pace: Pace) -> Any:
    """TRL's trainers, as Unsloth has changed them."""
    common = arguments(task, per_device_train_batch_size=1)
    if task.kind == "preference":
        return DPOTrainer(
            model=model,
            args=DPOConfig(**common, max_length=task.sequence_length),
            train_dataset=Dataset.from_list(task.rows),
            processing_class=tokenizer,
            callbacks=[Losses(pace)],
        )
    return SFTTrainer(
        model=model,
        args=SFTConfig(
            **common,
            max_length=task.sequence_length,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=Dataset.from_list(task.rows),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        processing_class=tokenizer,
        callbacks=[Losses(pace)],
    )


def main() -> None:
    """Train until the driver has seen enough."""
    pace = Pace()
    task = load_task()
    model, tokenizer = FastLanguageModel.from_pretrained(
        model_name=task.model,
        max_seq_length=task.sequence_length,
        dtype=task.torch_dtype,
        load_in_4bit=False,
        use_gradient_checkpointing=False,
    )
    model = FastLanguageModel.get_peft_model(
        model,
        r=task.rank,
        lora_alpha=task.alpha,
        lora_dropout=0,
        bias="none",
        target_modules=LINEAR,
        use_gradient_checkpointing=False,
        random_state=SEED,
    )
    start_alike(model, task)
    trainer = in_order(trainer_of(task, model, tokenizer, pace), by_length(task))
    pace.start()
    trainer.train()


if __name__ == "__main__":
    main()

"""What stages leave behind, made directly: a base model, an adapter as if trained, a plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from finetune_trainer.run import Run
from unit.trainer.tiny import tiny_model, tiny_tokenizer

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "run.json"


def tiny_run(**changes: Any) -> Run:
    """The documented example's plan, with top-level keys of run.json replaced."""
    return Run.model_validate(json.loads(EXAMPLE.read_text()) | changes)


def save_base(
    directory: Path,
    *,
    tied: bool = True,
    dtype: torch.dtype = torch.float32,
    shard_size: str = "1GB",
) -> PreTrainedModel:
    """A tiny model and its tokenizer, as `prepare` leaves them; the model is returned."""
    model = tiny_model(tie_word_embeddings=tied).to(dtype).eval()
    model.save_pretrained(directory, max_shard_size=shard_size)
    tiny_tokenizer().save_pretrained(directory)
    return model


def save_adapter(directory: Path, model: PreTrainedModel, **config: Any) -> PeftModel:
    """An adapter with random weights in PEFT's format; base + adapter is returned."""
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    tuned = get_peft_model(model, LoraConfig(**(settings | config)))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_magnitude" in name:
                parameter.mul_(1 + 0.1 * torch.rand_like(parameter))
            elif "lora_" in name or "modules_to_save" in name:
                parameter.normal_(std=0.1)
    tuned.save_pretrained(directory)
    return tuned.eval()

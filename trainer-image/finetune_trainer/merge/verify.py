"""Proof that a merged model is what was trained: its logits, from disk, against base + adapter.

Works on any model that PEFT can wrap. Belongs here: loading both, comparing, and how much
rounding may change. Does not: how the merged files came about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn.modules import Linear4bit
from peft import PeftModel
from transformers import BitsAndBytesConfig

from finetune_trainer.architecture import auto_class
from finetune_trainer.run import Task
from finetune_trainer.train.methods.quantization import keep_trainable

# How much the logits may differ, as a share of their size. The arithmetic is float32 on both sides,
# so what is left is the order of sums (float32) or one rounding of each merged weight: measured on
# a trained model of 135 million weights and 30 layers in bfloat16, 1.2 %, and less where layers are
# wider. The adapter itself changed those logits by 41 %.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}


@dataclass(frozen=True, slots=True)
class Difference:
    """Root mean square difference of logits from those of base + adapter, as a share of theirs.

    `error` is the merged model's, `effect` the base's: what the adapter does.
    """

    error: float
    effect: float

    def within(self, tolerance: float) -> bool:
        """Whether the merged model's logits are those of base + adapter; never true for NaN."""
        return self.error <= tolerance


def compare(
    base: Path,
    adapter: Path,
    merged: Path,
    sequences: Sequence[Sequence[int]],
    quantization: BitsAndBytesConfig | None = None,
    task: Task = Task.GENERATION,
) -> Difference:
    """Run the token sequences through base + adapter, the base alone, and the merged model; the
    base quantized by `quantization`, if the adapter was merged into that.

    One model is in memory at a time, as its files have it; a module's weights are float32 while it
    computes.
    """
    tuned = PeftModel.from_pretrained(_load(base, task, quantization), str(adapter)).eval()
    expected = torch.cat([_logits(tuned, ids) for ids in sequences])
    with tuned.disable_adapter():
        untuned = torch.cat([_logits(tuned, ids) for ids in sequences])
    del tuned
    model = _load(merged, task)
    found = torch.cat([_logits(model, ids) for ids in sequences])
    return Difference(error=_distance(found, expected), effect=_distance(untuned, expected))


def fixed_sequences(vocabulary: int, count: int = 4, length: int = 32) -> list[list[int]]:
    """Token ids spread over the vocabulary, the same on every call; used where there is no data."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary, (count, length), generator=generator)
    return [[int(token) for token in row] for row in ids]


def _load(directory: Path, task: Task, quantization: BitsAndBytesConfig | None = None) -> Any:
    if quantization is None:
        # The base may have a head for other labels; the adapter brings the one that was trained.
        model = auto_class(task).from_pretrained(
            directory, dtype="auto", ignore_mismatched_sizes=task.has_labels
        )
        return model.eval()
    model = (
        auto_class(task)
        .from_pretrained(
            directory, dtype=quantization.bnb_4bit_compute_dtype, quantization_config=quantization
        )
        .eval()
    )
    keep_trainable(model)
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.compute_dtype = torch.float32
    return model


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Root mean square of the difference over that of `other`."""
    return float((one - other).norm() / other.norm())


def _logits(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """Logits in float32, shape [len(ids), vocabulary]."""
    hooks = [
        handle
        for module in model.modules()
        if any(True for _ in module.parameters(recurse=False))
        for handle in (
            module.register_forward_pre_hook(_widen),
            module.register_forward_hook(_restore, always_call=True),
        )
    ]
    try:
        with torch.inference_mode():
            output = model(input_ids=torch.tensor([list(ids)]), use_cache=False)
    finally:
        for handle in hooks:
            handle.remove()
    return output.logits[0].float()


def _widen(module: Any, _inputs: Any) -> None:
    """Compute this module in float32: 16-bit arithmetic would hide errors behind its own noise."""
    module.stored_parameters = dict(module.named_parameters(recurse=False))
    for name, parameter in module.stored_parameters.items():
        if parameter.is_floating_point():
            module._parameters[name] = torch.nn.Parameter(parameter.float(), requires_grad=False)


def _restore(module: Any, _inputs: Any, _output: Any) -> None:
    for name, parameter in module.__dict__.pop("stored_parameters", {}).items():
        module._parameters[name] = parameter

"""What tests ask of a run of `train`."""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from finetune_trainer.data.examples import Examples
from finetune_trainer.workspace import Workspace


def history(workspace: Workspace) -> list[dict[str, float]]:
    """What has been recorded so far, a logged step or evaluation after the other."""
    if not workspace.history.exists():
        return []
    return [json.loads(line) for line in workspace.history.read_text().splitlines()]


def recorded(workspace: Workspace, name: str) -> list[float]:
    """The values of a metric, one after the other."""
    return [line[name] for line in history(workspace) if name in line]


def losses(workspace: Workspace) -> list[float]:
    return recorded(workspace, "loss")


def gradient_norms(workspace: Workspace) -> list[float]:
    """Before clipping."""
    return recorded(workspace, "grad_norm")


def validation_losses(workspace: Workspace) -> list[float]:
    """The base's first."""
    return recorded(workspace, "base_eval_loss") + recorded(workspace, "eval_loss")


def evaluations(workspace: Workspace) -> list[dict[str, float]]:
    """All that each evaluation found, the base's first."""
    found = [
        {name: value for name, value in line.items() if "eval_" in name}
        for line in history(workspace)
    ]
    return [each for each in found if each]


def weights(workspace: Workspace) -> dict[str, torch.Tensor]:
    """What is left, adapter or model."""
    lora = workspace.adapter / "adapter_model.safetensors"
    return dict(load_file(lora if lora.exists() else workspace.merged / "model.safetensors"))


def stock_loss(model: Any, workspace: Workspace) -> float:
    """Validation loss by transformers alone, one document a time."""
    total, count = 0.0, 0
    validation = Examples(workspace.data / "validation")
    model.eval()
    with torch.no_grad():
        for index in range(len(validation)):
            example = validation[index]
            tokens = torch.from_numpy(example.tokens.astype("int64"))
            labels = torch.where(torch.from_numpy(example.supervised[1:].copy()), tokens[1:], -100)
            logits = model(input_ids=tokens[None]).logits[0, -len(tokens) : -1]
            total += float(cross_entropy(logits, labels, reduction="sum"))
            count += int((labels != -100).sum())
    return total / count

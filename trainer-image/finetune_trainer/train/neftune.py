"""Noise on the embeddings of trained tokens (NEFTune, Jain et al., arXiv:2310.05914).

Uniform in ±alpha / sqrt(L d), with L the tokens of the document and d the width. Nothing of it is
saved, and an evaluation has none. Drawn from torch's generator, which the recipe seeds by step and
rank.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def add_noise(model: PreTrainedModel, alpha: float) -> None:
    """Let `model` compute with noise of size `alpha` wherever it is in training mode."""
    noise = _Noise(alpha)
    decoder = getattr(model, model.base_model_prefix, model)
    decoder.register_forward_pre_hook(noise.see, with_kwargs=True)
    model.get_input_embeddings().register_forward_hook(noise.add)


def document_lengths(position_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Of every position [rows, T], how many tokens its document has: the row's real ones, or in a
    row of several documents those between two positions of zero.
    """
    if attention_mask is not None:
        return attention_mask.sum(dim=1, keepdim=True).expand_as(attention_mask)
    document = (position_ids == 0).cumsum(dim=1)
    counts = torch.zeros_like(document).scatter_add_(1, document - 1, torch.ones_like(document))
    return counts.gather(1, document - 1)


class _Noise:
    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self._lengths: Tensor | None = None

    def see(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        positions = kwargs.get("position_ids")
        self._lengths = None
        if decoder.training and positions is not None:
            self._lengths = document_lengths(positions, kwargs.get("attention_mask"))

    def add(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        if self._lengths is None or self._lengths.shape != output.shape[:2]:
            return output
        size = self._alpha / (self._lengths * output.shape[-1]).sqrt()
        noise = torch.empty_like(output, dtype=torch.float32).uniform_(-1, 1)
        return output + (noise * size[..., None]).to(output.dtype)

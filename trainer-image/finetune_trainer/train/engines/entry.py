"""The way into a model whose parameters an engine looks after.

An engine acts before and after every pass, through hooks on one module's call. What a pass calls
inside of the model, and how often, is the objective's, and need not be known to the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from transformers import PreTrainedModel


class Entry(nn.Module):  # type: ignore[misc]  # torch is not type-checked
    """`model`, called through a function that uses it."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What `function` of `arguments` returns; it passes through the model in any way."""
        return function(*arguments)

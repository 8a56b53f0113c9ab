"""Full training of chosen parameters, the others frozen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn

from finetune_trainer.outcome import UserError

_FIELD = "spec.method.full.trainable"
# How many names an error lists.
_LISTED = 24


def freeze_others(model: nn.Module, patterns: Sequence[str]) -> None:
    """Leave only parameters trainable that a pattern names, by itself or by a module that they are
    in, and make these float32. Patterns are shell's (`*`, `?`, `[0-9]`); tied parameters are
    trained if one of their names is.

    Below the first trained parameter nothing needs a gradient, and autograd computes none.

    Raises:
        UserError: a pattern names nothing; the sentence has what exists.
    """
    names: dict[int, list[str]] = {}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, parameter in parameters.items():
        names.setdefault(id(parameter), []).append(name)
    for pattern in patterns:
        if not any(_names(pattern, name) for name in parameters):
            raise UserError(
                f'{_FIELD} has "{pattern}", which names nothing in the model; it has: '
                f"{', '.join(_summary(parameters))}."
            )
    for parameter in model.parameters():
        trained = any(
            _names(pattern, name) for pattern in patterns for name in names[id(parameter)]
        )
        parameter.requires_grad_(trained)
        if trained:
            parameter.data = parameter.data.to(torch.float32)


def _names(pattern: str, name: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def _summary(names: Iterable[str]) -> list[str]:
    """Patterns that stand for all names: numbers of layers become `*`."""
    patterns = list(dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name) for name in names))
    return patterns[:_LISTED] + (["…"] if len(patterns) > _LISTED else [])

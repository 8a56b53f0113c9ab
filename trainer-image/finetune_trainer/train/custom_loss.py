"""A user's own loss, `spec.training.loss`: a function from an image's package or a mounted
ConfigMap.

Code of a ConfigMap is imported where it is called: in the ranks of `train`, which hold no token,
and nowhere else. `prepare` has read it, and kept it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from finetune_trainer.outcome import StageError, UserError
from finetune_trainer.run import CustomLoss

_FIELD = "spec.training.loss"

TokenLoss = Callable[[Tensor, Tensor], Tensor]


def load_loss(settings: CustomLoss, files: Path) -> TokenLoss:
    """The function, of the image or of the directory `files`: it takes logits [n, vocabulary] in
    float32 and the tokens to predict [n] and returns their losses' sum, which is checked at every
    call.

    Raises:
        UserError: it cannot be imported, or its result is no sum of losses.
    """
    # Last: what the image has cannot be replaced.
    if str(files) not in sys.path:
        sys.path.append(str(files))
    where = f"{settings.module}:{settings.function}"
    try:
        function = getattr(importlib.import_module(settings.module), settings.function)
    except (StageError, MemoryError, torch.OutOfMemoryError):
        raise  # SIGTERM comes as an error, too
    except Exception as error:
        raise UserError(
            f"{_FIELD} names {where}, which cannot be imported ({type(error).__name__}: {error}): "
            "set module and function to what the trainer image or loss.configMapRef has."
        ) from error
    if not callable(function):
        raise UserError(f"{_FIELD} names {where}, which is no function: set function to one.")

    def checked(logits: Tensor, targets: Tensor) -> Tensor:
        if not len(targets):
            return logits.float().sum()
        try:
            found = function(logits.float(), targets)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise UserError(
                f"{_FIELD} {where} failed ({type(error).__name__}: {error}): it is given logits "
                "(n, vocabulary) and the tokens to predict (n)."
            ) from error
        if not isinstance(found, Tensor) or found.shape != torch.Size([]):
            kind = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UserError(
                f"{_FIELD} {where} returned {kind} for {len(targets)} tokens: it must return the "
                "sum of their losses, a tensor without dimensions."
            )
        if torch.is_grad_enabled() and logits.requires_grad and not found.requires_grad:
            raise UserError(
                f"{_FIELD} {where} returned a number that no gradient flows from: compute it from "
                "the logits with torch alone."
            )
        return found

    return checked

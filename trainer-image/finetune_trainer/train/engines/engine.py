"""The interface between the recipe and how the ranks share a model.

Belongs here: gradients, the optimizer's step and its state, whichever rank holds which part. What
is computed is the objective's, when it is computed the recipe's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from finetune_trainer.train.batches import Batch

Result = TypeVar("Result")

# From the trained parameters, as the engine has placed them, to what updates them.
MakeOptimizer = Callable[[dict[str, nn.Parameter]], torch.optim.Optimizer]


class Engine(Protocol):
    """One model on all ranks.

    A pass through the model may be an operation of all ranks together (a parameter is gathered when
    it is needed), so every rank makes the same number of passes, one after another, each through
    `evaluate` or `backward`. `parameters` are those that are trained, by name, as this rank holds
    them.
    """

    parameters: dict[str, nn.Parameter]

    def evaluate(self, function: Callable[..., Result], *arguments: object) -> Result:
        """What `function` of `arguments` returns, which passes through the model, without
        gradients.
        """
        ...

    def start_step(self) -> None:
        """Forget the gradients of the step before."""
        ...

    def backward(
        self, function: Callable[[Batch], Tensor], batch: Batch, *, weight: float, last: bool
    ) -> Tensor:
        """Add the gradient of `weight` times the loss of `batch`, a sum over its targets and the
        first of what `function` returns of it; all that it returns, detached.

        With the `last` batch of a step gradients are added up over all ranks.
        """
        ...

    def clip(self, maximum: float) -> float:
        """Scale all gradients so that their common L2 norm is at most `maximum` (0: do not); the
        norm before, the same on every rank.
        """
        ...

    def update(self, learning_rate: float) -> None:
        """The optimizer's step."""
        ...

    def unused(self) -> list[str]:
        """Names of the parameters that no pass of this step used, where that keeps the ranks from
        the next one; the same on every rank.
        """
        ...

    def unreached(self) -> list[str]:
        """Names of the parameters that have had no gradient, or one of zeros, in every step so far,
        also in steps before this process; the same on every rank.
        """
        ...

    def broken(self) -> list[str]:
        """Names of the parameters that are not finite everywhere; the same on every rank."""
        ...

    def gather(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Parameters of the model, trained or not, or their moments: whole and in CPU memory on
        rank 0 (elsewhere it may be empty); all ranks call it together.
        """
        ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Trained weights and optimizer state by name, as from `gather`. They say nothing of the
        engine: another one, on other ranks, can go on with them.
        """
        ...

    def load_state(self, weights: dict[str, Tensor], moments: dict[str, Tensor]) -> None:
        """Take back what `state` gave, on every rank.

        Raises:
            ValueError: they are not those of `parameters`.
        """
        ...

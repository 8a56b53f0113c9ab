"""The interface between the recipe and how the ranks share a model.

Belongs here: gradients, the optimizer's step and its state, whichever rank holds which part. What
is computed is the objective's, when it is computed the recipe's.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from finetune_trainer.train.batches import Batch


class Engine(Protocol):
    """One model on all ranks.

    `parameters` are those that are trained, by name, as this rank holds them.
    """

    parameters: dict[str, nn.Parameter]

    def loss(self, batch: Batch) -> Tensor:
        """The summed loss of `batch`, without gradients."""
        ...

    def start_step(self) -> None:
        """Forget the gradients of the step before."""
        ...

    def backward(self, batch: Batch, *, weight: float, last: bool) -> Tensor:
        """Add the gradient of `weight` times the summed loss of `batch`; the loss itself, detached.

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

    def unreached(self) -> list[str]:
        """Names of the parameters that have had no gradient, or one of zeros, in every step so far,
        also in steps before this process.
        """
        ...

    def broken(self) -> list[str]:
        """Names of the parameters that are not finite everywhere."""
        ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Weights and optimizer state by name, whole and in CPU memory, on rank 0 (elsewhere they
        may be empty); all ranks call it together.
        """
        ...

    def load_state(self, weights: dict[str, Tensor], moments: dict[str, Tensor]) -> None:
        """Take back what `state` gave, on every rank.

        Raises:
            ValueError: they are not those of `parameters`.
        """
        ...

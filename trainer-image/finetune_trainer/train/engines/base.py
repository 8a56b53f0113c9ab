"""What engines share whose parameters an optimizer of torch updates: it and its state are of what
this rank holds of them, all of each or a slice.

How parameters come to the ranks, and gradients from one to the other, is the subclasses'.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from finetune_trainer.train.batches import Batch
from finetune_trainer.train.engines.engine import MakeOptimizer
from finetune_trainer.train.engines.entry import Entry
from finetune_trainer.train.model import require_same_shapes, trainable_parameters
from finetune_trainer.train.optimizer import (
    arrived,
    clip,
    load_state_tensors,
    set_learning_rate,
    state_tensors,
)
from finetune_trainer.train.parallel import Group


class TorchEngine:
    """Most of an `Engine`; `entry` holds the model, placed, and what a pass is called through."""

    def __init__(
        self, entry: Entry, wrapped: nn.Module, optimizer: MakeOptimizer, group: Group
    ) -> None:
        self.parameters = trainable_parameters(entry.model)
        self._group = group
        self._entry = wrapped
        self._optimizer = optimizer(self.parameters)

    def start_step(self) -> None:
        """See `Engine`."""
        self._optimizer.zero_grad(set_to_none=True)

    def clip(self, maximum: float) -> float:
        """See `Engine`."""
        return clip(self.parameters, maximum)

    def update(self, learning_rate: float) -> None:
        """See `Engine`."""
        set_learning_rate(self._optimizer, learning_rate)
        self._optimizer.step()

    def unreached(self) -> list[str]:
        """The moments tell it; see `optimizer.arrived`."""
        moments = {name: arrived(self._optimizer.state[p]) for name, p in self.parameters.items()}
        reached = self._counts(
            [moment is not None and bool(local(moment).any()) for moment in moments.values()]
        )
        return [name for name, count in zip(moments, reached, strict=True) if not count]

    def broken(self) -> list[str]:
        """See `Engine`."""
        broken = self._counts(
            [not bool(local(value).isfinite().all()) for value in self.parameters.values()]
        )
        return [name for name, count in zip(self.parameters, broken, strict=True) if count]

    def gather(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `Engine`."""
        raise NotImplementedError

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """See `Engine`; where it is whole is as with `gather`."""
        return (
            self.gather(dict(self.parameters)),
            self.gather(state_tensors(self._optimizer, self.parameters)),
        )

    def load_state(self, weights: dict[str, Tensor], moments: dict[str, Tensor]) -> None:
        """See `Engine`."""
        require_same_shapes(weights, {name: p.shape for name, p in self.parameters.items()})
        for name, parameter in self.parameters.items():
            local(parameter.data).copy_(local(self._placed(weights[name], parameter)))
        placed = {}
        for key, value in moments.items():
            parameter = self.parameters[key.rpartition("/")[0]]
            # What is not of its shape counts steps.
            alike = value.shape == parameter.shape
            placed[key] = self._placed(value, parameter) if alike else value
        load_state_tensors(self._optimizer, self.parameters, placed)

    def _add_gradient(
        self, function: Callable[[Batch], Tensor], batch: Batch, weight: float
    ) -> Tensor:
        """Of `weight` times the first of what `function` returns of `batch`; it all, detached."""
        values: Tensor = self._entry(function, batch)
        (values[0] * weight).backward()
        return values.detach()

    def _counts(self, found: list[bool]) -> list[float]:
        """On how many of the ranks that hold different things each is so."""
        raise NotImplementedError

    def _placed(self, whole: Tensor, parameter: nn.Parameter) -> Tensor:
        """Of `whole`, a value of `parameter` or one of its moments, what this rank holds; on the
        parameter's device.
        """
        raise NotImplementedError


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of `tensor`."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor

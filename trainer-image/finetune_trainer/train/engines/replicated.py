"""Every rank holds the whole model; gradients are added up by torch's DistributedDataParallel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from finetune_trainer.train.batches import Batch
from finetune_trainer.train.engines.engine import MakeOptimizer, Result
from finetune_trainer.train.engines.entry import Entry
from finetune_trainer.train.model import require_same_shapes, trainable_parameters
from finetune_trainer.train.optimizer import (
    clip,
    load_state_tensors,
    set_learning_rate,
    state_tensors,
    unreached,
)
from finetune_trainer.train.parallel import Group, assert_same_start


class Replicated:
    """The engine of one rank alone, and of DDP (Li et al., arXiv:2006.15704) on several."""

    def __init__(self, model: PreTrainedModel, optimizer: MakeOptimizer, group: Group) -> None:
        self.parameters = trainable_parameters(model)
        self._optimizer = optimizer(self.parameters)
        self._ranks = group.world_size
        self._entry = self._wrap(Entry(model), group)
        assert_same_start(group, list(self.parameters.values()))

    def _wrap(self, entry: nn.Module, group: Group) -> nn.Module:
        if self._ranks == 1:
            return entry
        # Every rank loaded the same weights from the same files: nothing is broadcast at the start.
        return DistributedDataParallel(
            entry,
            device_ids=[group.device] if group.device.type == "cuda" else None,
            forward_sync_buffers=False,
            gradient_as_bucket_view=True,
            init_sync=False,
        )

    def evaluate(self, function: Callable[..., Result], *arguments: object) -> Result:
        """See `Engine`."""
        with torch.no_grad():
            return function(*arguments)

    def start_step(self) -> None:
        """See `Engine`."""
        self._optimizer.zero_grad(set_to_none=True)

    def backward(
        self, loss: Callable[[Batch], Tensor], batch: Batch, *, weight: float, last: bool
    ) -> Tensor:
        """See `Engine`."""
        # DDP divides by the number of ranks; the sum is wanted.
        weight *= self._ranks
        if self._ranks > 1 and not last:
            with self._entry.no_sync():
                return self._add_gradient(loss, batch, weight)
        return self._add_gradient(loss, batch, weight)

    def _add_gradient(self, loss: Callable[[Batch], Tensor], batch: Batch, weight: float) -> Tensor:
        value: Tensor = self._entry(loss, batch)
        (value * weight).backward()
        return value.detach()

    def clip(self, maximum: float) -> float:
        """See `Engine`."""
        return clip(self.parameters, maximum)

    def update(self, learning_rate: float) -> None:
        """See `Engine`."""
        set_learning_rate(self._optimizer, learning_rate)
        self._optimizer.step()

    def unreached(self) -> list[str]:
        """The first moment tells it; see `optimizer.unreached`."""
        return unreached(self._optimizer, self.parameters)

    def broken(self) -> list[str]:
        """See `Engine`."""
        return [name for name, value in self.parameters.items() if not value.isfinite().all()]

    def gather(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `Engine`; whole on every rank."""
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """See `Engine`; whole on every rank."""
        return (
            self.gather(dict(self.parameters)),
            self.gather(state_tensors(self._optimizer, self.parameters)),
        )

    def load_state(self, weights: dict[str, Tensor], moments: dict[str, Tensor]) -> None:
        """See `Engine`."""
        require_same_shapes(weights, {name: p.shape for name, p in self.parameters.items()})
        for name, parameter in self.parameters.items():
            parameter.data.copy_(weights[name])
        load_state_tensors(self._optimizer, self.parameters, moments)

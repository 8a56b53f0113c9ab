"""Every rank holds the whole model; gradients are added up by torch's DistributedDataParallel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from finetune_trainer.train.batches import Batch
from finetune_trainer.train.engines.base import TorchEngine
from finetune_trainer.train.engines.engine import MakeOptimizer, Result
from finetune_trainer.train.engines.entry import Entry
from finetune_trainer.train.parallel import Group, assert_same_start


class Replicated(TorchEngine):
    """The engine of one rank alone, and of DDP (Li et al., arXiv:2006.15704) on several."""

    def __init__(self, model: PreTrainedModel, optimizer: MakeOptimizer, group: Group) -> None:
        entry = Entry(model)
        super().__init__(entry, _wrap(entry, group), optimizer, group)
        assert_same_start(group, list(self.parameters.values()))

    def evaluate(self, function: Callable[..., Result], *arguments: object) -> Result:
        """See `Engine`."""
        with torch.no_grad():
            return function(*arguments)

    def backward(
        self, function: Callable[[Batch], Tensor], batch: Batch, *, weight: float, last: bool
    ) -> Tensor:
        """See `Engine`."""
        # DDP divides by the number of ranks; the sum is wanted.
        weight *= self._group.world_size
        if self._group.world_size > 1 and not last:
            with self._entry.no_sync():
                return self._add_gradient(function, batch, weight)
        return self._add_gradient(function, batch, weight)

    def unused(self) -> list[str]:
        """See `Engine`: DDP waits for every gradient, also for one that does not come."""
        if self._group.world_size == 1:
            return []
        return [name for name, parameter in self.parameters.items() if parameter.grad is None]

    def gather(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `Engine`; whole on every rank."""
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def _counts(self, found: list[bool]) -> list[float]:
        return [float(value) for value in found]

    def _placed(self, whole: Tensor, parameter: nn.Parameter) -> Tensor:
        return whole.to(parameter.device)


def _wrap(entry: Entry, group: Group) -> nn.Module:
    if group.world_size == 1:
        return entry
    # Every rank loaded the same weights from the same files: nothing is broadcast at the start.
    return DistributedDataParallel(
        entry,
        device_ids=[group.device] if group.device.type == "cuda" else None,
        forward_sync_buffers=False,
        gradient_as_bucket_view=True,
        init_sync=False,
    )

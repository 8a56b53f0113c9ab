"""Every rank holds the whole model; gradients are added up by torch's DistributedDataParallel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from finetune_trainer.train.batches import Batch
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

    def __init__(
        self,
        module: nn.Module,
        parameters: dict[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        group: Group,
    ) -> None:
        self.parameters = parameters
        self._optimizer = optimizer
        self._ranks = group.world_size
        self._plain = module
        self._module = self._wrap(module, group)
        assert_same_start(group, list(parameters.values()))

    def _wrap(self, module: nn.Module, group: Group) -> nn.Module:
        if self._ranks == 1:
            return module
        # Every rank loaded the same weights from the same files: nothing is broadcast at the start.
        return DistributedDataParallel(
            module,
            device_ids=[group.device] if group.device.type == "cuda" else None,
            forward_sync_buffers=False,
            gradient_as_bucket_view=True,
            init_sync=False,
        )

    def loss(self, batch: Batch) -> Tensor:
        """See `Engine`."""
        with torch.no_grad():
            loss: Tensor = self._plain(batch)
        return loss

    def start_step(self) -> None:
        """See `Engine`."""
        self._optimizer.zero_grad(set_to_none=True)

    def backward(self, batch: Batch, *, weight: float, last: bool) -> Tensor:
        """See `Engine`."""
        # DDP divides by the number of ranks; the sum is wanted.
        weight *= self._ranks
        if self._ranks > 1 and not last:
            with self._module.no_sync():
                return self._add_gradient(batch, weight)
        return self._add_gradient(batch, weight)

    def _add_gradient(self, batch: Batch, weight: float) -> Tensor:
        loss: Tensor = self._module(batch)
        (loss * weight).backward()
        return loss.detach()

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

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """See `Engine`; whole on every rank."""
        return (
            _on_cpu(dict(self.parameters)),
            _on_cpu(state_tensors(self._optimizer, self.parameters)),
        )

    def load_state(self, weights: dict[str, Tensor], moments: dict[str, Tensor]) -> None:
        """See `Engine`."""
        if _shapes(weights) != _shapes(dict(self.parameters)):
            raise ValueError("its weights are not those that this plan trains")
        for name, parameter in self.parameters.items():
            parameter.data.copy_(weights[name])
        load_state_tensors(self._optimizer, self.parameters, moments)


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}

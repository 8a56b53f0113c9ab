"""Every rank holds a slice of each parameter, of its gradient and of its moments: torch's FSDP2.

A layer's parameters are gathered when a pass reaches it and dropped behind it (Zhao et al.,
arXiv:2304.11277; `torch.distributed.fsdp.fully_shard`). Loading reads this rank's slices alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from finetune_trainer.outcome import DefectError
from finetune_trainer.run import Fsdp
from finetune_trainer.train.batches import Batch
from finetune_trainer.train.engines.engine import MakeOptimizer, Result
from finetune_trainer.train.engines.entry import Entry
from finetune_trainer.train.model import placed_dtype, require_same_shapes, trainable_parameters
from finetune_trainer.train.optimizer import arrived, clip, set_learning_rate, state_tensors
from finetune_trainer.train.parallel import Group

# Trained parameters of at most this share of all keep their gradients whole until a step's end.
SMALL_SHARE = 0.1


class Sharded:
    """The engine of FSDP.

    `model` is as read from its files, its parameters in CPU memory or mapped; they leave it for
    this rank's slices on its device: frozen ones in the format `frozen`, trained ones in float32.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        optimizer: MakeOptimizer,
        group: Group,
        *,
        settings: Fsdp,
        frozen: torch.dtype,
    ) -> None:
        self._group = group
        self._mesh = init_device_mesh(group.device.type, (group.world_size,))
        self._entry = Entry(model)
        values = _leave(model, frozen)
        self._shard(settings)
        _take(model, values, torch.device("cpu") if settings.cpu_offload else group.device)
        require_sharded(model, self._mesh)
        self.parameters = trainable_parameters(model)
        self._optimizer = optimizer(self.parameters)
        count = sum(parameter.numel() for parameter in model.parameters())
        trained = sum(parameter.numel() for parameter in self.parameters.values())
        self._accumulates_whole = trained <= SMALL_SHARE * count

    def _shard(self, settings: Fsdp) -> None:
        common: dict[str, object] = {"mesh": self._mesh}
        if settings.cpu_offload and self._group.device.type != "cpu":
            common["offload_policy"] = CPUOffloadPolicy()
        # Gathered as they are kept: autocast, where the objective asks for it, makes of them what
        # it makes of a whole model's; a pass without it (the probe, a sample) is one in float32.
        for layer in layers(self._entry.model):
            fully_shard(
                layer,
                reshard_after_forward=settings.reshard_after_forward,
                **common,
            )
        fully_shard(self._entry, **common)
        # Gradients are added up, not averaged; gloo knows no other factor.
        for module in self._entry.modules():
            if hasattr(module, "set_force_sum_reduction_for_comms"):
                module.set_force_sum_reduction_for_comms(True)
                module.set_gradient_divide_factor(1.0)

    def evaluate(self, function: Callable[..., Result], *arguments: object) -> Result:
        """See `Engine`."""
        try:
            with torch.no_grad():
                result: Result = self._entry(function, *arguments)
        finally:
            # No backward pass follows that would, and what was gathered would outlive an update.
            self._entry.reshard()
        return result

    def start_step(self) -> None:
        """See `Engine`."""
        self._optimizer.zero_grad(set_to_none=True)

    def backward(
        self, loss: Callable[[Batch], Tensor], batch: Batch, *, weight: float, last: bool
    ) -> Tensor:
        """See `Engine`."""
        if self._accumulates_whole:
            self._entry.set_requires_gradient_sync(last)
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
        moments = {
            name: arrived(self._optimizer.state[parameter])
            for name, parameter in self.parameters.items()
        }
        return self._where_none(
            {
                name: moment is not None and bool(_local(moment).any())
                for name, moment in moments.items()
            }
        )

    def broken(self) -> list[str]:
        """See `Engine`."""
        return self._where_none(
            {
                name: not bool(_local(value).isfinite().all())
                for name, value in self.parameters.items()
            },
            invert=True,
        )

    def _where_none(self, found: dict[str, bool], *, invert: bool = False) -> list[str]:
        counts = self._group.sum([float(value) for value in found.values()])
        return [name for name, count in zip(found, counts, strict=True) if (count > 0) is invert]

    def gather(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `Engine`; one tensor after another, so that a device holds no second one whole."""
        gathered = {}
        for name, tensor in tensors.items():
            whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if self._group.is_main:
                gathered[name] = whole.detach().cpu().contiguous()
        return gathered

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """See `Engine`; empty on other ranks."""
        return (
            self.gather(dict(self.parameters)),
            self.gather(state_tensors(self._optimizer, self.parameters)),
        )

    def load_state(self, weights: dict[str, Tensor], moments: dict[str, Tensor]) -> None:
        """See `Engine`."""
        require_same_shapes(weights, {name: p.shape for name, p in self.parameters.items()})
        for name, parameter in self.parameters.items():
            _local(parameter.data).copy_(own_slice(weights[name], self._mesh))
        for key, value in moments.items():
            name, _, part = key.rpartition("/")
            parameter = self.parameters[name]
            self._optimizer.state[parameter][part] = (
                _distribute(value, parameter, parameter.device)
                if value.shape == parameter.shape
                else value.to(parameter.device)
            )


def layers(model: nn.Module) -> list[nn.Module]:
    """The blocks that are gathered one at a time, inner ones first."""
    return [
        module
        for module in reversed(list(model.modules()))
        if isinstance(module, GradientCheckpointingLayer)
    ]


def require_sharded(model: nn.Module, mesh: DeviceMesh) -> None:
    """Prove that FSDP is in force: every parameter is a slice over all ranks.

    Raises:
        DefectError: some are not.
    """
    whole = [
        name
        for name, parameter in model.named_parameters()
        if not isinstance(parameter, DTensor)
        or parameter.device_mesh != mesh
        or parameter.placements != (Shard(0),)
    ]
    if whole:
        raise DefectError(
            f"spec.parallelism.strategy FSDP is not in force: {whole[0]} is not sharded "
            f"({len(whole)} such parameters)"
        )


def own_slice(whole: Tensor, mesh: DeviceMesh) -> Tensor:
    """This rank's rows of `whole`, a view; the last ranks may have none."""
    chunks = whole.chunk(mesh.size())
    rank = mesh.get_local_rank()
    return chunks[rank] if rank < len(chunks) else whole[:0]


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _leave(model: nn.Module, frozen: torch.dtype) -> dict[str, Tensor]:
    """Take the parameters' storage out of `model`: they go to the meta device, in the format that
    each is trained or kept with; their values as they were, by name.
    """
    values = {name: parameter.detach() for name, parameter in model.named_parameters()}
    usual = model.dtype

    def without_storage(parameter: nn.Parameter) -> nn.Parameter:
        dtype = placed_dtype(parameter, usual=usual, frozen=frozen)
        empty = torch.empty_like(parameter, device="meta", dtype=dtype)
        return nn.Parameter(empty, requires_grad=parameter.requires_grad)

    _replace_parameters(model, without_storage)
    return values


def _take(model: nn.Module, values: dict[str, Tensor], device: torch.device) -> None:
    """Give the sharded parameters of `model`, on the meta device, this rank's slices of `values`,
    on `device`.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}

    def with_slice(parameter: nn.Parameter) -> nn.Parameter:
        assert isinstance(parameter, DTensor)
        value = _distribute(values[names[parameter]], parameter, device)
        return nn.Parameter(value, requires_grad=parameter.requires_grad)

    _replace_parameters(model, with_slice)


def _replace_parameters(
    model: nn.Module, replacement: Callable[[nn.Parameter], nn.Parameter]
) -> None:
    """Put `replacement` of each parameter in its place; what was tied stays tied."""
    done: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if parameter not in done:
                done[parameter] = replacement(parameter)
            module._parameters[name] = done[parameter]


def _distribute(whole: Tensor, like: DTensor, device: torch.device) -> DTensor:
    """This rank's slice of `whole`, read and copied alone, in the format of `like`."""
    local = own_slice(whole, like.device_mesh).to(device, like.dtype, copy=True)
    return DTensor.from_local(
        local.contiguous(),
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    )

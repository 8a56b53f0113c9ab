"""Every rank holds a slice of each parameter, of its gradient and of its moments: torch's FSDP2.

A layer's parameters are gathered when a pass reaches it and dropped behind it (Zhao et al.,
arXiv:2304.11277; `torch.distributed.fsdp.fully_shard`). Loading reads this rank's slices alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from finetune_trainer.outcome import DefectError
from finetune_trainer.run import Fsdp
from finetune_trainer.train.batches import Batch
from finetune_trainer.train.engines.base import TorchEngine
from finetune_trainer.train.engines.engine import MakeOptimizer, Result
from finetune_trainer.train.engines.entry import Entry
from finetune_trainer.train.methods.quantization import UnquantizedWeight, place_scales, plain
from finetune_trainer.train.model import placed_dtype
from finetune_trainer.train.parallel import Group

# Trained parameters of at most this share of all keep their gradients whole until a step's end.
SMALL_SHARE = 0.1


class Sharded(TorchEngine):
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
        self._mesh = init_device_mesh(group.device.type, (group.world_size,))
        entry = Entry(model)
        values = _leave(model, frozen)
        _shard(entry, self._mesh, group.device, settings)
        kept_on = torch.device("cpu") if settings.cpu_offload else group.device
        _take(model, values, frozen, group, kept_on)
        place_scales(model, group.device)
        require_sharded(model, self._mesh)
        super().__init__(entry, entry, optimizer, group)
        count = sum(parameter.numel() for parameter in model.parameters())
        trained = sum(parameter.numel() for parameter in self.parameters.values())
        self._accumulates_whole = trained <= SMALL_SHARE * count

    def evaluate(self, function: Callable[..., Result], *arguments: object) -> Result:
        """See `Engine`."""
        try:
            with torch.no_grad():
                result: Result = self._entry(function, *arguments)
        finally:
            # No backward pass follows that would, and what was gathered would outlive an update, or
            # in layers that keep it a `load_state`.
            for module in _gathered_together(self._entry):
                module.reshard()
        return result

    def backward(
        self, function: Callable[[Batch], Tensor], batch: Batch, *, weight: float, last: bool
    ) -> Tensor:
        """See `Engine`."""
        if self._accumulates_whole:
            self._entry.set_requires_gradient_sync(last)
        return self._add_gradient(function, batch, weight)

    def unused(self) -> list[str]:
        """See `Engine`: nothing waits for a gradient."""
        return []

    def gather(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `Engine`, empty on other ranks; one tensor after another, so that a device holds no
        second one whole.
        """
        gathered = {}
        for name, tensor in tensors.items():
            whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if self._group.is_main:
                gathered[name] = whole.detach().cpu().contiguous()
        return gathered

    def _counts(self, found: list[bool]) -> list[float]:
        return self._group.sum([float(value) for value in found])

    def _placed(self, whole: Tensor, parameter: nn.Parameter) -> Tensor:
        assert isinstance(parameter, DTensor)
        return _distribute(whole, parameter, parameter.device)


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


def _shard(entry: Entry, mesh: DeviceMesh, device: torch.device, settings: Fsdp) -> None:
    common: dict[str, object] = {"mesh": mesh}
    if settings.cpu_offload and device.type != "cpu":
        common["offload_policy"] = CPUOffloadPolicy()
    # Gathered as they are kept: autocast, where the objective asks for it, makes of them what it
    # makes of a whole model's; a pass without it (the probe, a sample) is one in float32.
    for layer in layers(entry.model):
        fully_shard(layer, reshard_after_forward=settings.reshard_after_forward, **common)
    fully_shard(entry, **common)
    # Gradients are added up, not averaged; gloo knows no other factor.
    for module in _gathered_together(entry):
        module.set_force_sum_reduction_for_comms(True)
        module.set_gradient_divide_factor(1.0)


def _gathered_together(entry: nn.Module) -> list[FSDPModule]:
    """The modules in it whose parameters FSDP gathers at a time."""
    return [module for module in entry.modules() if isinstance(module, FSDPModule)]


def _leave(model: nn.Module, frozen: torch.dtype) -> dict[str, Tensor]:
    """Take the parameters' storage out of `model`: they go to the meta device, in the format that
    each is trained or kept with; what they were, by name.
    """
    values = dict(model.named_parameters())
    usual = model.dtype

    def without_storage(parameter: nn.Parameter) -> nn.Parameter:
        dtype = placed_dtype(parameter, usual=usual, frozen=frozen)
        empty = torch.empty(parameter.shape, device="meta", dtype=dtype)
        return nn.Parameter(empty, requires_grad=parameter.requires_grad)

    _replace_parameters(model, without_storage)
    return values


def _take(
    model: nn.Module,
    values: dict[str, Tensor],
    frozen: torch.dtype,
    group: Group,
    device: torch.device,
) -> None:
    """Give the sharded parameters of `model`, on the meta device, this rank's slices of `values`,
    on `device`.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}

    def with_slice(parameter: nn.Parameter) -> nn.Parameter:
        assert isinstance(parameter, DTensor)
        whole = values.pop(names[parameter])
        if isinstance(whole, UnquantizedWeight):
            whole = whole.quantized(frozen, group.device)
        value = _distribute(plain(whole), parameter, device)
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

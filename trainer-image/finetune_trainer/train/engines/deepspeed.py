"""DeepSpeed's ZeRO (Rajbhandari et al., arXiv:1910.02054) in its stages 1 to 3.

Ranks share the optimizer's state, from stage 2 gradients too, in stage 3 the parameters. Gradients
are added up, weights updated and tensors gathered by DeepSpeed; what a step is, and what a
checkpoint holds, stays as with any other engine.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from finetune_trainer.outcome import DefectError
from finetune_trainer.run import DeepSpeed
from finetune_trainer.train.batches import Batch
from finetune_trainer.train.engines.engine import MakeOptimizer, Result
from finetune_trainer.train.engines.entry import Entry
from finetune_trainer.train.model import placed_dtype, require_same_shapes, trainable_parameters
from finetune_trainer.train.optimizer import arrived, set_learning_rate
from finetune_trainer.train.parallel import Group
from finetune_trainer.train.speed.lora import fusible

# What torch's optimizers keep that has not its parameter's shape.
STEP = "step"


class Zero:
    """The engine of DeepSpeed.

    `model` is as read from its files. In stage 3 its parameters are in CPU memory or mapped and
    leave it for this rank's parts: frozen ones in the format `frozen`, trained ones in float32.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        optimizer: MakeOptimizer,
        group: Group,
        *,
        settings: DeepSpeed,
        frozen: torch.dtype,
    ) -> None:
        self._library = _library(group.device)
        self._group = group
        self._stage = settings.stage
        # Whether there are gradients that no update has used.
        self._pending = False
        config = _config(settings)
        if settings.stage == 3:
            _take_parts(self._library, model, frozen, config)
            _gather_at_once(self._library, fusible(model))
        self.parameters = trainable_parameters(model)
        self._optimizer = optimizer(self.parameters)
        self._engine, *_ = self._library.initialize(
            model=Entry(model),
            optimizer=self._optimizer,
            config=config,
            dist_init_required=False,
        )
        require_stage(self._engine, settings.stage, self.parameters, ranks=group.world_size)

    def evaluate(self, function: Callable[..., Result], *arguments: object) -> Result:
        """See `Engine`."""
        results = []

        def passing() -> tuple[()]:
            # Stage 3 looks for tensors in whatever a module returns, and not everything has a dict.
            results.append(function(*arguments))
            return ()

        with torch.no_grad():
            self._engine(passing)
        return results[0]

    def start_step(self) -> None:
        """See `Engine`."""
        if self._pending:
            # A step that was not made. DeepSpeed throws gradients away when they are not finite.
            for parameter in self.parameters.values():
                self._fill_gradient(parameter, math.nan)
            self._engine.step()
            self._pending = False

    def backward(
        self, function: Callable[[Batch], Tensor], batch: Batch, *, weight: float, last: bool
    ) -> Tensor:
        """See `Engine`."""
        self._pending = True
        self._engine.set_gradient_accumulation_boundary(last)
        values: Tensor = self._engine(function, batch)
        # DeepSpeed divides by the number of ranks; the sum is wanted.
        loss = values[0] * (weight * self._group.world_size)
        self._engine.backward(loss, scale_wrt_gas=False)
        return values.detach()

    def clip(self, maximum: float) -> float:
        """See `Engine`; gradients are scaled when they are used."""
        zero = self._engine.optimizer
        zero.clip_grad = maximum
        if self._stage < 3:
            norm = float(zero.scaled_global_norm())
        else:
            parts = torch.stack([torch.as_tensor(part) for part in zero._get_norm_groups()])
            norm = float(torch.linalg.vector_norm(parts)) if bool((parts >= 0).all()) else -1.0
        # Its word for what is not finite.
        return norm if norm >= 0 else math.nan

    def update(self, learning_rate: float) -> None:
        """See `Engine`."""
        set_learning_rate(self._optimizer, learning_rate)
        self._engine.step()
        self._pending = False

    def unused(self) -> list[str]:
        """See `Engine`: nothing waits for a gradient."""
        return []

    def unreached(self) -> list[str]:
        """The moments tell it; see `optimizer.arrived`."""
        keys = self._moments()
        moments = {
            name: arrived({key: self._moment(parameter, key) for key in keys})
            for name, parameter in self.parameters.items()
        }
        return [name for name, moment in moments.items() if moment is None or not moment.any()]

    def broken(self) -> list[str]:
        """See `Engine`."""
        return [
            name
            for name, parameter in self.parameters.items()
            if not self._library.utils.safe_get_full_fp32_param(parameter).isfinite().all()
        ]

    def gather(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `Engine`; one tensor after another, so that a device holds no second one whole."""
        gathered = {}
        for name, tensor in tensors.items():
            with self._gathered(tensor):
                if self._group.is_main:
                    gathered[name] = tensor.detach().cpu().clone().contiguous()
        return gathered

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """See `Engine`; empty on other ranks."""
        moments = {}
        keys = self._moments()
        steps = [state[STEP] for state in self._optimizer.state.values() if STEP in state]
        for name, parameter in self.parameters.items():
            for key in keys:
                moment = self._moment(parameter, key)
                if self._group.is_main:
                    moments[f"{name}/{key}"] = moment.cpu().clone().contiguous()
            if steps:
                moments[f"{name}/{STEP}"] = torch.as_tensor(steps[0]).cpu().clone()
        return self.gather(dict(self.parameters)), moments

    def load_state(self, weights: dict[str, Tensor], moments: dict[str, Tensor]) -> None:
        """See `Engine`."""
        require_same_shapes(weights, {name: _shape(p) for name, p in self.parameters.items()})
        keys = {key.rpartition("/")[2] for key in moments}
        if keys:
            steps = [value for key, value in moments.items() if key.endswith(f"/{STEP}")]
            self._make_moments(keys - {STEP}, steps)
        for name, parameter in self.parameters.items():
            value = weights[name].to(self._group.device)
            with self._gathered(parameter, write=True):
                parameter.data.copy_(value)
            self._set(parameter, value, None)
            for key in sorted(keys - {STEP}):
                self._set(parameter, moments[f"{name}/{key}"].to(self._group.device), key)

    def _fill_gradient(self, parameter: nn.Parameter, value: float) -> None:
        tools = self._library.utils
        if self._stage < 3:
            tools.safe_set_full_grad(
                parameter, torch.full(parameter.shape, value, device=self._group.device)
            )
        else:
            part = tools.safe_get_local_grad(parameter)
            tools.safe_set_local_grad(parameter, torch.full_like(part, value))

    def _moments(self) -> list[str]:
        """What the optimizer keeps of each parameter; nothing before its first step."""
        states: list[dict[str, Any]] = [state for state in self._optimizer.state.values() if state]
        state = states[0] if states else {}
        return [key for key, value in state.items() if key != STEP and value is not None]

    def _make_moments(self, keys: set[str], steps: list[Tensor]) -> None:
        """The optimizer's state, which it would make in its first step."""
        zero = self._engine.optimizer
        third = self._stage == 3
        flat = zero.fp32_partitioned_groups_flat if third else zero.single_partition_of_fp32_groups
        for part in flat:
            self._optimizer.state[part] = {key: torch.zeros_like(part) for key in keys}
            if steps:
                self._optimizer.state[part][STEP] = steps[0].to(part.device, copy=True)
        if not third:
            zero._lazy_init_hp_params_optimizer_state()

    def _moment(self, parameter: nn.Parameter, key: str) -> Tensor:
        """Whole, on every rank."""
        moment: Tensor = self._library.utils.safe_get_full_optimizer_state(parameter, key)
        return moment

    def _set(self, parameter: nn.Parameter, value: Tensor, key: str | None) -> None:
        """Write the whole `value` to the float32 copy of a parameter, or to its moment `key`."""
        tools = self._library.utils
        if self._stage < 3:
            if key is None:
                tools.safe_set_full_fp32_param(parameter, value)
            else:
                tools.safe_set_full_optimizer_state(parameter, value, key)
            return
        # DeepSpeed's own words for this fail where the ranks do not divide the parameter.
        ranks, rank = self._group.world_size, self._group.rank
        part = math.ceil(value.numel() / ranks)
        padded = value.new_zeros(ranks * part)
        padded[: value.numel()] = value.flatten()
        own = padded.narrow(0, rank * part, part)
        if key is None:
            tools.safe_set_local_fp32_param(parameter, own)
        else:
            tools.safe_set_local_optimizer_state(parameter, own, key)

    def _gathered(self, tensor: Tensor, *, write: bool = False) -> AbstractContextManager[Any]:
        """`tensor` is whole inside; with `write` what is written to it stays."""
        if self._stage < 3 or not isinstance(tensor, nn.Parameter):
            return nullcontext()
        context: AbstractContextManager[Any] = self._library.zero.GatheredParameters(
            [tensor], modifier_rank=0 if write else None
        )
        return context


def require_stage(
    engine: Any, stage: int, parameters: dict[str, nn.Parameter], *, ranks: int
) -> None:
    """Prove that ZeRO is in force: the engine's stage is `stage`, and of several `ranks` this one
    holds only a part of the weights that the optimizer changes, in stage 3 of each parameter.

    Raises:
        DefectError: it is not.
    """
    if engine.zero_optimization_stage() != stage:
        raise DefectError(
            f"spec.parallelism.deepspeed.stage is {stage}, but DeepSpeed runs stage "
            f"{engine.zero_optimization_stage()}"
        )
    if stage == 3:
        whole = [name for name, each in parameters.items() if not hasattr(each, "ds_id")]
        if whole:
            raise DefectError(
                f"spec.parallelism.deepspeed.stage 3 is not in force: {whole[0]} is not partitioned"
            )
        return
    held = sum(part.numel() for part in engine.optimizer.single_partition_of_fp32_groups)
    count = sum(parameter.numel() for parameter in parameters.values())
    if ranks > 1 and held >= count:
        raise DefectError(
            f"spec.parallelism.deepspeed.stage {stage} is not in force: the optimizer of one of "
            f"{ranks} processes holds all {count} trained values"
        )


def _config(settings: DeepSpeed) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": settings.stage}
    if settings.stage == 3:
        # Small parameters too: what is asked for is that none is kept whole.
        zero["stage3_param_persistence_threshold"] = 0
    if settings.offload == "CPU":
        zero["offload_optimizer"] = {"device": "cpu"}
        if settings.stage == 3:
            zero["offload_param"] = {"device": "cpu"}
    return {
        # Steps are the recipe's: DeepSpeed is told when one ends.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "zero_optimization": zero,
        # torch's AdamW, fused: DeepSpeed's own is compiled when it is first used, and an image that
        # serves has no compiler.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def _library(device: torch.device) -> Any:
    """DeepSpeed, which takes seconds to import and reads the environment when it is."""
    if device.type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ.setdefault("DS_LOG_LEVEL", "error")
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # Otherwise it compiles kernels when it first wants them, and an image that serves has no
    # compiler; what it calls compatible it does not try out. torch's operations do.
    deepspeed.ops.__compatible_ops__ = {}
    deepspeed.init_distributed(dist_init_required=False, auto_mpi_discovery=False)
    return deepspeed


def _take_parts(
    library: Any, model: nn.Module, frozen: torch.dtype, config: dict[str, Any]
) -> None:
    """Leave each parameter of `model` to the ranks in parts, one after another."""
    context = library.zero.Init(module=nn.Module(), config_dict_or_path=config)
    usual = model.dtype
    for parameter in model.parameters():
        dtype = placed_dtype(parameter, usual=usual, frozen=frozen)
        parameter.data = parameter.data.to(dtype, copy=True)
        context._convert_to_zero_parameters([parameter])


def _gather_at_once(library: Any, layers: Iterable[nn.Module]) -> None:
    """Gather the parameters of each of `layers` when that is called, and not only in the modules in
    it whose own they are: a forward pass may read them directly.

    DeepSpeed's leaf modules would too, but add up the gradients of one whose input needs none
    before they are there.
    """
    for layer in layers:
        for parameter in layer.parameters():
            library.zero.register_external_parameter(layer, parameter)


def _shape(parameter: nn.Parameter) -> torch.Size:
    return torch.Size(getattr(parameter, "ds_shape", parameter.shape))

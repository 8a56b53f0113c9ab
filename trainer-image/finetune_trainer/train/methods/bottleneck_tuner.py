"""Bottleneck adapters as a method of PEFT's: importing this module is enough for
`PeftModel.from_pretrained` to load one.

Behind a block of every layer stands `h + W_up f(W_down h + b_down) + b_up`, h [..., hidden] being
what the block wrote (Houlsby et al., arXiv:1902.00751; behind feed-forward blocks alone: Pfeiffer
et al., arXiv:2005.00247). W_up begins as zero, so the model begins as the base. What f does to h
has no counterpart in the base's weights: such an adapter cannot be merged.

Why a method of PEFT's: PEFT has none like it, and the `adapters` library, which has, is for another
major version of transformers. As PEFT's it is saved, loaded, switched off and listed as any other.

This file is published beside every adapter that it made, and has to do with PEFT (tried: 0.18.1 to
0.21.2) and torch alone: nothing of the trainer may be imported here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING, PeftConfig
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional

PEFT_TYPE = "BOTTLENECK"
PREFIX = "bottleneck_"
NON_LINEARITIES = {
    "relu": functional.relu,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
}


@dataclass
class BottleneckConfig(PeftConfig):  # type: ignore[misc]  # PEFT is not type-checked
    """Adapters of width hidden size / `reduction_factor` behind each of `target_modules`, which
    write the hidden states, or a tuple that begins with them.
    """

    target_modules: list[str] | set[str] | str | None = field(default=None)
    modules_to_save: list[str] | None = field(default=None)
    reduction_factor: int = field(default=16)
    non_linearity: str = field(default="relu")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PEFT_TYPE
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)
        if self.non_linearity not in NON_LINEARITIES:
            raise ValueError(f"non_linearity must be one of {', '.join(NON_LINEARITIES)}")


class Projection(nn.Linear):  # type: ignore[misc]
    """A linear layer that computes in the format of what it reads, which may be narrower than its
    weights'.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out]."""
        return functional.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class BottleneckLayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """A block, `base_layer`, with adapters behind it; without an active one it is the block."""

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")

    def __init__(
        self, block: nn.Module, adapter_name: str, config: BottleneckConfig, hidden: int
    ) -> None:
        super().__init__()
        self.base_layer = block
        self.bottleneck_down = nn.ModuleDict()
        self.bottleneck_up = nn.ModuleDict()
        self.non_linearities: dict[str, str] = {}
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config, hidden)

    def __getattr__(self, name: str) -> Any:
        """What a model asks of the block."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(super().__getattr__("base_layer"), name)

    def update_layer(self, adapter_name: str, config: BottleneckConfig, hidden: int) -> None:
        """Add the adapter `adapter_name`, in float32, for hidden states of size `hidden`."""
        size = hidden // config.reduction_factor
        if size < 1:
            raise ValueError(f"reduction_factor must be at most {hidden}, the hidden size")
        device = next(self.base_layer.parameters()).device
        down = Projection(hidden, size, device=device, dtype=torch.float32)
        up = Projection(size, hidden, device=device, dtype=torch.float32)
        nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
        for zero in (down.bias, up.weight, up.bias):
            nn.init.zeros_(zero)
        self.bottleneck_down[adapter_name] = down
        self.bottleneck_up[adapter_name] = up
        self.non_linearities[adapter_name] = config.non_linearity
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The block's output, its hidden states adapted, in their own format."""
        output = self.base_layer(*args, **kwargs)
        if self.disable_adapters:
            return output
        if isinstance(output, tuple):
            return (self._adapt(output[0]), *output[1:])
        return self._adapt(output)

    def _adapt(self, hidden: Tensor) -> Tensor:
        for name in self.active_adapters:
            if name in self.bottleneck_down:
                activation = NON_LINEARITIES[self.non_linearities[name]]
                inner = activation(self.bottleneck_down[name](hidden))
                hidden = hidden + self.bottleneck_up[name](inner)
        return hidden

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refused.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "A bottleneck adapter is not linear and cannot be merged into weights: use the model "
            "with its adapter."
        )


class BottleneckModel(BaseTuner):  # type: ignore[misc]
    """A model with `BottleneckLayer`s in the place of its target modules."""

    prefix = PREFIX
    tuner_layer_cls = BottleneckLayer
    target_module_mapping: ClassVar[dict[str, list[str]]] = {}

    def _create_and_replace(
        self,
        peft_config: BottleneckConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **kwargs: Any,
    ) -> None:
        hidden = self.model.config.get_text_config().hidden_size
        if isinstance(target, BottleneckLayer):
            target.update_layer(adapter_name, peft_config, hidden)
            return
        layer = BottleneckLayer(target, adapter_name, peft_config, hidden)
        if adapter_name not in self.active_adapters:
            # An adapter besides the active one is not trained until it is chosen.
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def _replace_module(
        self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module
    ) -> None:
        """PEFT's would take a weight over, which a block does not have."""
        setattr(parent, child_name, new_module)


# `peft.utils.register_peft_method` takes only names that PEFT's own list of types has, and does
# nothing else with others than this.
PEFT_TYPE_TO_CONFIG_MAPPING[PEFT_TYPE] = BottleneckConfig
PEFT_TYPE_TO_TUNER_MAPPING[PEFT_TYPE] = BottleneckModel
PEFT_TYPE_TO_PREFIX_MAPPING[PEFT_TYPE] = PREFIX

"""Which tensors of the base a LoRA adapter changes, and by how much: names, shapes and scales.

The rules are PEFT's (its adapter format, `LoraConfig`). Belongs here: reading the adapter's
settings and matching its keys to the base's. Does not: files, dtypes, and anything that holds a
whole model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from finetune_trainer.outcome import DefectError, UserError
from finetune_trainer.weights import Shape

_PREFIX = "base_model.model."
_FACTORS = {
    ".lora_A.weight": ("down", False),
    ".lora_B.weight": ("up", False),
    ".lora_embedding_A": ("down", True),
    ".lora_embedding_B": ("up", True),
    ".lora_magnitude_vector": ("norms", False),
}
# Settings that change nothing about `W + scale * B @ A`. Any other one that is on is refused: an
# adapter kind that PEFT gains later must not be merged as if it were plain LoRA.
_HARMLESS = frozenset(
    {
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "lora_dropout",
        "megatron_core",
        "modules_to_save",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
        "use_dora",
        "use_rslora",
    }
)
# Initializations that leave the base's weights as they are.
_PLAIN_INITIALIZATIONS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one base tensor: replaced by `replacement`, then `scale * up @ down` added.

    The four are keys of the adapter file; None where there is no such part. With `transposed` the
    base stores the weight as [in, out] (Conv1D, embeddings), and the product is transposed first.
    Of a `new` tensor the base has none. With `norms` the weights of every output are then scaled to
    its norm (DoRA). With `rounded_from` the base's weights are those that training computed with:
    in NF4, from that format. `factors` are multiplied with the tensor as PEFT has it, [out, 1] or
    [1, in] (IA3).
    """

    replacement: str | None = None
    down: str | None = None
    up: str | None = None
    norms: str | None = None
    factors: str | None = None
    scale: float = 1.0
    transposed: bool = False
    new: bool = False
    rounded_from: torch.dtype | None = None


@dataclass(frozen=True, slots=True)
class Base:
    """What matching needs to know of the base model.

    `shapes` are the checkpoint's tensors; `prefix` is the model's `base_model_prefix`, which some
    checkpoints leave out; `tied` maps a tensor that shares another's storage to that one;
    `transposed` says whether the module of that name stores its weight as [in, out]; `quantized`
    are the modules that the merge is to take as they were in training, quantized from `dtype`;
    `heads` those that training began anew.
    """

    shapes: Mapping[str, Shape]
    prefix: str
    tied: Mapping[str, str]
    transposed: Callable[[str], bool]
    quantized: frozenset[str] = frozenset()
    heads: frozenset[str] = frozenset()
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes by checkpoint tensor, and the tensors that no longer share another's storage.

    `untied` maps such a tensor to the base tensor it starts from. If there is one, the merged model
    must say `tie_word_embeddings: false`.
    """

    changes: Mapping[str, Change]
    untied: Mapping[str, str]


def require_mergeable(config: Mapping[str, Any]) -> None:
    """Refuse adapters that are not plain LoRA.

    Raises:
        UserError: the adapter is of another kind, or of a variant that is not `W + scale * B @ A`.
    """
    kind = config.get("peft_type")
    initialization = config.get("init_lora_weights", True)
    on = sorted(key for key, value in config.items() if value and key not in _HARMLESS)
    if kind != "LORA":
        reason = f"is of type {kind}"
    elif initialization not in _PLAIN_INITIALIZATIONS:
        reason = f"was initialized by {initialization}, which changes the base model"
    elif on:
        reason = f"uses {', '.join(on)}"
    else:
        return
    raise UserError(
        f"The adapter {reason}, which cannot be merged: set spec.upload.artifacts to [Adapter]."
    )


def plan(config: Mapping[str, Any], adapter: Mapping[str, Shape], base: Base) -> Plan:
    """The changes that the adapter's tensors (key to shape) make to the base.

    Raises:
        DefectError: an adapter tensor has no counterpart in the base or in the adapter, or does
            not fit it.
    """
    changes: dict[str, Change] = {}
    for key in sorted(adapter):
        name, part, embedding = _parse(key)
        if part == "replacement" and name.partition(".")[0] in base.heads:
            changes[name] = Change(replacement=key, new=True)
            continue
        target, _ = locate(name, base)
        change = changes.get(target, Change())
        if part == "replacement":
            changes[target] = replace(change, replacement=key)
            continue
        module = name.removesuffix(".weight")
        changes[target] = replace(
            change,
            **{part: key},
            new=change.new,
            scale=scale_of(module, config),
            transposed=change.transposed or embedding or base.transposed(module),
        )
    for module in base.quantized:
        # Also those without an adapter: training computed with them as they were.
        target, _ = locate(f"{module}.weight", base)
        changes[target] = replace(
            changes.get(target, Change()),
            rounded_from=base.dtype,
            transposed=base.transposed(module),
        )
    # As soon as one end of a tie was trained, the other keeps its own value: both are written.
    untied: dict[str, str] = {}
    for shared, owner in base.tied.items():
        target, source = locate(shared, base)[0], locate(owner, base)[0]
        if target in changes or source in changes:
            untied[target] = source
    for target, change in changes.items():
        if config.get("use_dora") and change.down is not None and change.norms is None:
            raise DefectError(f"The adapter is DoRA's, and holds no norms for {target}.")
        if not change.new:
            _check(target, change, adapter, base.shapes[untied.get(target, target)])
    return Plan(changes, untied)


def scale_of(module: str, config: Mapping[str, Any]) -> float:
    """alpha / r, or alpha / sqrt(r) with rsLoRA, after PEFT's per-module patterns."""
    rank = _by_pattern(config.get("rank_pattern"), module, config["r"])
    alpha = _by_pattern(config.get("alpha_pattern"), module, config["lora_alpha"])
    return float(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def delta_rows(
    down: torch.Tensor, up: torch.Tensor, change: Change, start: int, stop: int
) -> torch.Tensor:
    """Rows `start:stop` of the tensor to add, float32, shape [stop - start, columns of the base].

    `down` is [r, in] and `up` is [out, r].
    """
    down, up = down.float(), up.float()
    product = down[:, start:stop].T @ up.T if change.transposed else up[start:stop] @ down
    return product * change.scale


def _parse(key: str) -> tuple[str, str, bool]:
    """The base tensor's run-time name, the part of its change, and whether it is an embedding."""
    if not key.startswith(_PREFIX):
        raise DefectError(f"The adapter holds {key}, which is not a key of PEFT's format.")
    name = key.removeprefix(_PREFIX)
    for suffix, (part, embedding) in _FACTORS.items():
        if name.endswith(suffix):
            return name.removesuffix(suffix) + ".weight", part, embedding
    return name.replace(".base_layer.", ".").replace(".original_module.", "."), "replacement", False


def locate(name: str, base: Base) -> tuple[str, str]:
    """The checkpoint's name of a run-time tensor, and the checkpoint tensor with its values."""
    for candidate in (name, name.removeprefix(f"{base.prefix}.")):
        if candidate in base.shapes:
            return candidate, candidate
    if name in base.tied:
        return name, locate(base.tied[name], base)[1]
    raise DefectError(f"The adapter changes {name}, which the base model's files do not hold.")


def _check(target: str, change: Change, adapter: Mapping[str, Shape], shape: Shape) -> None:
    if change.replacement is not None and adapter[change.replacement] != shape:
        found = list(adapter[change.replacement])
        raise DefectError(f"The adapter holds {target} as {found}, the base as {list(shape)}.")
    if (change.down is None) != (change.up is None):
        raise DefectError(f"The adapter holds only one of the two factors for {target}.")
    if change.down is None or change.up is None:
        if change.norms is not None:
            raise DefectError(f"The adapter holds only the norms for {target}.")
        return
    down, up = adapter[change.down], adapter[change.up]
    if len(down) != 2 or len(up) != 2 or down[0] != up[1]:
        raise DefectError(f"The factors for {target} do not fit each other: {down} and {up}.")
    product = (down[1], up[0]) if change.transposed else (up[0], down[1])
    if product != shape:
        raise DefectError(
            f"The adapter's change to {target} is {list(product)}, the base's tensor {list(shape)}."
        )
    if change.norms is not None and adapter[change.norms] != up[:1]:
        raise DefectError(f"The norms for {target} do not fit its {up[0]} outputs.")


def _by_pattern(patterns: Mapping[str, float] | None, module: str, default: float) -> float:
    """The value of the first pattern that matches the end of the module's name, as PEFT does."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default

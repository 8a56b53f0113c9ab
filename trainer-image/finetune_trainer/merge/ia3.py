"""Which tensors of the base an IA3 adapter changes: names and shapes.

The rules are PEFT's (its adapter format, `IA3Config`): a factor for every output scales rows and
bias, one for every input scales columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_trainer.merge.lora import Base, Change, Plan, locate
from finetune_trainer.outcome import DefectError, UserError
from finetune_trainer.weights import Shape

_PREFIX = "base_model.model."
_SUFFIX = ".ia3_l"
# Settings that change nothing about the factors; any other one that is on is refused.
_HARMLESS = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "exclude_modules",
        "fan_in_fan_out",
        "feedforward_modules",
        "inference_mode",
        "init_ia3_weights",
        "peft_type",
        "peft_version",
        "revision",
        "target_modules",
        "task_type",
    }
)


def require_mergeable(config: Mapping[str, Any]) -> None:
    """Refuse adapters that are more than factors.

    Raises:
        UserError: a setting is on that this does not know.
    """
    if on := sorted(key for key, value in config.items() if value and key not in _HARMLESS):
        raise UserError(
            f"The adapter uses {', '.join(on)}, which cannot be merged: set spec.upload.artifacts "
            "to [Adapter]."
        )


def plan(adapter: Mapping[str, Shape], base: Base) -> Plan:
    """The changes that the adapter's tensors (key to shape) make to the base.

    Raises:
        DefectError: an adapter tensor has no counterpart in the base, or does not fit it.
    """
    changes: dict[str, Change] = {}
    for key in sorted(adapter):
        if not (key.startswith(_PREFIX) and key.endswith(_SUFFIX)):
            raise DefectError(f"The adapter holds {key}, which is not a key of PEFT's IA3.")
        module = key.removeprefix(_PREFIX).removesuffix(_SUFFIX)
        weight, _ = locate(f"{module}.weight", base)
        change = Change(factors=key, transposed=base.transposed(module))
        changes[weight] = change
        outputs, inputs = base.shapes[weight]
        if change.transposed:
            outputs, inputs = inputs, outputs
        if adapter[key] not in ((outputs, 1), (1, inputs)):
            raise DefectError(f"The factors {key} do not fit {weight}.")
        bias = weight.removesuffix("weight") + "bias"
        if adapter[key] == (outputs, 1) and bias in base.shapes:
            changes[bias] = change
    return Plan(changes, untied={})

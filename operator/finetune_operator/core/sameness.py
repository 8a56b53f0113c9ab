"""Does the pinned plan still say what the spec asks for? If not, what was trained is thrown away.

The image is not compared here: a newer operator brings a newer default, as it may bring new keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard, TypeVar

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.schema import ApiModel
from finetune_operator.core.model import Plan, Settings
from finetune_operator.core.plan import make_plan

# The name of the plan itself, and the token that asked for it.
NOT_COMPARED = frozenset({"planHash", "rerunToken"})

M = TypeVar("M", bound=ApiModel)


def same_run(resource: FineTuneJob, pinned: Plan, settings: Settings) -> bool:
    """Whether a run of the pinned plan is what the spec asks for.

    A key that the operator did not know when it pinned the plan counts if the user has set it.
    """
    new = make_plan(resource, settings)
    unset = resource.model_copy(update={"spec": _unset(resource.spec, pinned.run)})
    defaults = make_plan(unset, settings)
    return new.stages == pinned.stages and _same(new.run, pinned.run, defaults.run)


def _same(new: Mapping[str, Any], pinned: Mapping[str, Any], defaults: Mapping[str, Any]) -> bool:
    for key in (new.keys() | pinned.keys()) - NOT_COMPARED:
        value, former, default = new.get(key), pinned.get(key), defaults.get(key)
        if isinstance(value, Mapping) and isinstance(former, Mapping):
            if not _same(value, former, default if isinstance(default, Mapping) else {}):
                return False
        elif _are_parts(value) and _are_parts(former) and len(value) == len(former):
            defaults_of = default if isinstance(default, list) else [{}] * len(value)
            if not all(map(_same, value, former, defaults_of)):
                return False
        elif value != (former if key in pinned else default):
            return False
    return True


def _are_models(value: Any) -> TypeGuard[list[ApiModel]]:
    return isinstance(value, list) and all(isinstance(item, ApiModel) for item in value)


def _are_parts(value: Any) -> TypeGuard[list[Mapping[str, Any]]]:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def _unset(model: M, pinned: Mapping[str, Any]) -> M:
    """The model with its defaults, but what is required, and optional parts that are pinned."""
    values: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        value, former = getattr(model, name), pinned.get(field.alias or name)
        default = field.get_default(call_default_factory=True, validated_data={})
        required, kept = field.is_required(), isinstance(former, Mapping)
        if isinstance(value, ApiModel) and (required or kept or default is not None):
            values[name] = _unset(value, former if isinstance(former, Mapping) else {})
        elif _are_models(value) and _are_parts(former) and len(value) == len(former):
            values[name] = list(map(_unset, value, former))
        elif not required:
            values[name] = default
    return model.model_copy(update=values)

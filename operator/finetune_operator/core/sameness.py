"""Does the pinned plan still say what the spec asks for? If not, from which stage on it does not:
what that stage and those after it have made is thrown away.

The image is not compared here: a newer operator brings a newer default, as it may bring new keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard, TypeVar

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.schema import ApiModel, Choice
from finetune_operator.core.model import Plan, Settings
from finetune_operator.core.plan import FIRST_READER, NAMES, is_before, make_plan
from finetune_operator.vocabulary import Stage

M = TypeVar("M", bound=ApiModel)


def first_changed(resource: FineTuneJob, pinned: Plan, settings: Settings) -> Stage | None:
    """The first stage that the spec tells something else than the pinned plan; None if none.

    A key that the operator did not know when it pinned the plan counts if the user has set it.
    """
    new = make_plan(resource, settings).run
    unset = resource.model_copy(update={"spec": _unset(resource.spec, pinned.run)})
    defaults = make_plan(unset, settings).run
    first: Stage | None = None
    for key in (new.keys() | pinned.run.keys()) - NAMES:
        # A stage that comes or goes is no matter of defaults.
        comes_or_goes = key in FIRST_READER and (key in new) != (key in pinned.run)
        if comes_or_goes or _differs(key, new, pinned.run, defaults):
            reader = FIRST_READER.get(key, Stage.PREPARE)
            first = reader if first is None or is_before(reader, first) else first
    return first


def _same(new: Mapping[str, Any], pinned: Mapping[str, Any], defaults: Mapping[str, Any]) -> bool:
    return not any(_differs(key, new, pinned, defaults) for key in new.keys() | pinned.keys())


def _differs(
    key: str, new: Mapping[str, Any], pinned: Mapping[str, Any], defaults: Mapping[str, Any]
) -> bool:
    value, former, default = new.get(key), pinned.get(key), defaults.get(key)
    if isinstance(value, Mapping) and isinstance(former, Mapping):
        return not _same(value, former, default if isinstance(default, Mapping) else {})
    if _are_parts(value) and _are_parts(former) and len(value) == len(former):
        defaults_of = default if isinstance(default, list) else [{}] * len(value)
        return not all(map(_same, value, former, defaults_of))
    return bool(value != (former if key in pinned else default))


def _are_models(value: Any) -> TypeGuard[list[ApiModel]]:
    return isinstance(value, list) and all(isinstance(item, ApiModel) for item in value)


def _are_parts(value: Any) -> TypeGuard[list[Mapping[str, Any]]]:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def _unset(model: M, pinned: Mapping[str, Any]) -> M:
    """The model with its defaults, but what is required or chosen, and parts that are pinned."""
    values: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        value, former = getattr(model, name), pinned.get(field.alias or name)
        default = field.get_default(call_default_factory=True, validated_data={})
        required = field.is_required() or isinstance(model, Choice)
        kept = required or isinstance(former, Mapping) or default is not None
        if isinstance(value, ApiModel) and kept:
            values[name] = _unset(value, former if isinstance(former, Mapping) else {})
        elif _are_models(value) and _are_parts(former) and len(value) == len(former):
            values[name] = list(map(_unset, value, former))
        elif not required:
            values[name] = default
    return model.model_copy(update=values)

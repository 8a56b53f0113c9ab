"""The JSON merge patch (RFC 7386) that turns one object into another. Pure."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def merge_patch(old: Json, new: Json) -> Json:
    """The smallest patch from `old` to `new`, {} when they are equal. Lists are replaced whole."""
    patch: Json = dict.fromkeys(old.keys() - new.keys())
    for field, value in new.items():
        if field not in old:
            patch[field] = value
        elif isinstance(value, dict) and isinstance(old[field], dict):
            nested = merge_patch(old[field], value)
            if nested:
                patch[field] = nested
        elif old[field] != value:
            patch[field] = value
    return patch

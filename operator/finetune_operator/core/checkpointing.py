"""A checkpoint that somebody asks for, by an annotation of the run: what of its value is believed,
and what is said of one that is not.

The value is passed on in the answer to the next progress report, and the trainer saves when it is
new to it (docs/stage-contract.md): nothing is remembered here, and no decision depends on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from finetune_operator.core.text import one_line
from finetune_operator.vocabulary import ANNOTATION_CHECKPOINT

EXAMPLE = "2026-01-31T12:00:00Z"
# Longer than any time, so that what is cut to it is none.
KEPT = 64
# RFC 3339 in upper case; whether there is such a day is the calendar's to say.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)


def request_of(annotations: Mapping[str, str]) -> dict[str, str]:
    """Of all annotations the one that asks for a checkpoint, no longer than needed to judge it."""
    value = _value(annotations)
    return {ANNOTATION_CHECKPOINT: value[:KEPT]} if value else {}


def requested_at(annotations: Mapping[str, str]) -> str | None:
    """When a checkpoint was asked for, as it was written; None if no time was, or nothing."""
    value = _value(annotations)
    if not _TIME.fullmatch(value):
        return None
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return None
    return value


def complaint(annotations: Mapping[str, str]) -> str | None:
    """What is wrong with the request; None if nothing is, or there is none."""
    value = _value(annotations)
    if not value or requested_at(annotations):
        return None
    return (
        f'Annotation {ANNOTATION_CHECKPOINT} is "{one_line(value)[:KEPT]}", which is no time such '
        f"as {EXAMPLE}: no checkpoint is asked for."
    )


def _value(annotations: Mapping[str, str]) -> str:
    return annotations.get(ANNOTATION_CHECKPOINT, "").strip()

"""The operator's sentences as they are true without a cluster. What they say is the core's."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from finetune_cli.local.remedies import AGAIN, here
from finetune_operator.core.remedy import CORRECT, USED_UP

Json = dict[str, Any]
_SUSPENDED = ": set spec.suspend to false to go on."
_AS_JOB = re.compile(r" as Job [-a-z0-9]+")
_LOGS = re.compile(r"kubectl logs job/([-a-z0-9]+) says more")


def localized(text: str, log: Callable[[str], Path]) -> str:
    """The sentence without Jobs and tokens, with what helps here; `log` tells where a Job's output
    is.
    """
    text = _AS_JOB.sub("", text)
    text = _LOGS.sub(lambda found: f"{log(found.group(1))} says more", text)
    text = text.replace(CORRECT, f" Correct it, then {AGAIN}.")
    text = text.replace(USED_UP, f" For another try {AGAIN}.")
    text = text.replace(_SUSPENDED, f": {AGAIN} to go on.")
    return here(text)


def shown(document: Mapping[str, Any], root: Path, log: Callable[[str], Path]) -> Json:
    """The resource as the views of a cluster's show it: its place for the namespace."""
    run: Json = copy.deepcopy(dict(document))
    run["metadata"]["namespace"] = str(root)
    status = run["status"]
    for item in [status, *status.get("stages", []), *status.get("attempts", [])]:
        if item.get("message"):
            item["message"] = localized(item["message"], log)
    # They are not on a claim; where they are is said beside the view.
    status.pop("artifacts", None)
    return run

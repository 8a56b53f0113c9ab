"""`-o json` and `-o yaml`: the same data for programs."""

from __future__ import annotations

import json
import sys
from typing import Any

import yaml


def emit(data: Any, output: str) -> None:
    """Print as json or yaml."""
    if output == "json":
        sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
        return
    sys.stdout.write(text_of(data))


def text_of(data: Any) -> str:
    """The data as YAML, keys in their order."""
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
    return text

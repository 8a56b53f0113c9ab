"""`-o json` and `-o yaml`: the same data for programs."""

from __future__ import annotations

import json
import sys
from typing import Any

import yaml

from finetune_cli.harmless import escaped


class _Dumper(yaml.SafeDumper):
    """As people write YAML: text of several lines after a bar, nothing by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def emit(data: Any, output: str) -> None:
    """Print as json or yaml; nothing in it is lost, and nothing commands a terminal."""
    if output == "json":
        sys.stdout.write(escaped(json.dumps(data, indent=2, ensure_ascii=False)) + "\n")
        return
    sys.stdout.write(text_of(data))


def text_of(data: Any) -> str:
    """The data as YAML, keys in their order."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text

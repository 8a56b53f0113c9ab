"""YAML files → documents, read as kubectl reads them. What a document means is not known here."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from finetune_cli.errors import CliError

Json = dict[str, Any]
STDIN = "-"


class _Loader(yaml.SafeLoader):
    """kubectl's reading of YAML where PyYAML's differs: 2e-4 is a number, a date is a string and a
    key that comes twice is an error.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f'the key "{key}" is there twice', key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file, and where it stands: `runs.yaml`, or `runs.yaml (2nd document)`."""

    where: str
    content: Any


def documents(path: str) -> list[Document]:
    """The documents of a file, or of the standard input for "-"; empty ones are left out.

    Raises:
        CliError: it cannot be read, or is not YAML; the message has the line.
    """
    text, name = _text(path)
    try:
        found = [item for item in yaml.load_all(text, _Loader) if item is not None]
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise CliError(f"{name}{line} is not YAML: {error.problem}.") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise CliError(f"{name} is not YAML: {str(error).splitlines()[0]}.") from None
    if not found:
        raise CliError(f"{name} is empty: `kubectl finetune init` writes a FineTuneJob.")
    if len(found) == 1:
        return [Document(name, found[0])]
    return [Document(f"{name} (document {n})", item) for n, item in enumerate(found, start=1)]


def _text(path: str) -> tuple[str, str]:
    if path == STDIN:
        return sys.stdin.read(), "standard input"
    try:
        return Path(path).read_text(encoding="utf-8"), path
    except FileNotFoundError:
        raise CliError(
            f"{path} does not exist: name a file, or write one with `kubectl finetune init`."
        ) from None
    except IsADirectoryError:
        raise CliError(f"{path} is a directory: name the files in it.") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise CliError(f"{path} cannot be read: {reason}.") from None

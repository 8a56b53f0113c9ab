"""What claims, ConfigMaps and Secrets are on this machine, as the command line says it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_cli.errors import CliError, Exit

Json = Mapping[str, Any]
# A ConfigMap is a directory of files, or its own data.
ConfigMap = Path | Mapping[str, str]
_KEY = re.compile("[-._a-zA-Z0-9]{1,253}")


@dataclass(frozen=True, slots=True)
class Bindings:
    """By name. `token` serves every Secret that has no file of its own."""

    volumes: Mapping[str, Path] = field(default_factory=dict)
    config_maps: Mapping[str, ConfigMap] = field(default_factory=dict)
    secrets: Mapping[str, Path] = field(default_factory=dict)
    token: str | None = None


def paths(option: str, pairs: Iterable[str], *, directory: bool) -> dict[str, Path]:
    """The values NAME=PATH of an option, as absolute paths that are there.

    Raises:
        CliError: one has another form, or there is no such file or directory.
    """
    kind = "directory" if directory else "file"
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals or not value:
            what = "DIR" if directory else "FILE"
            raise CliError(f'{option} "{pair}" must be NAME={what}.', Exit.USAGE)
        path = Path(value).expanduser().absolute()
        if not (path.is_dir() if directory else path.is_file()):
            raise CliError(f"{option} {name}: {value} is not a {kind}: name one that is there.")
        found[name] = path
    return found


def config_maps_of(documents: Iterable[Any]) -> dict[str, ConfigMap]:
    """The ConfigMaps that stand in the same file as the run."""
    found: dict[str, ConfigMap] = {}
    for document in documents:
        if isinstance(document, Mapping) and document.get("kind") == "ConfigMap":
            name = (document.get("metadata") or {}).get("name")
            data = document.get("data") or {}
            found[str(name)] = {_file_name(key): str(value) for key, value in data.items()}
    return found


def _file_name(key: Any) -> str:
    """A key as the API server takes it: it becomes a file's name, and never leads elsewhere."""
    name = str(key)
    if not _KEY.fullmatch(name) or name.startswith("..") or name == ".":
        raise CliError(
            f'A ConfigMap in the file has the key "{name}": rename it, to letters, digits, "-", '
            '"_" and ".", not beginning with "..".'
        )
    return name

"""Who may do what: the token file, its scopes and the namespaces a token may touch.

The file is JSON, `{TOKEN: {"name": USER, "scope": "read"|"write", "orgs": [NAMESPACE, …]}}`.
Without `orgs` a token reaches every namespace; with it, only its own name and those listed.
Does not belong here: HTTP, and the visibility of repositories.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Identity:
    """The bearer of a token."""

    name: str
    scope: Literal["read", "write"]
    orgs: tuple[str, ...] | None = None

    @property
    def may_write(self) -> bool:
        return self.scope == "write"

    def reaches(self, namespace: str) -> bool:
        return self.orgs is None or namespace == self.name or namespace in self.orgs


class TokenFileError(ValueError):
    """The token file cannot be used; the message says what must be."""


def parse_tokens(text: str) -> dict[str, Identity]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise TokenFileError(f"the token file must be JSON: {error}") from None
    if not isinstance(document, dict):
        raise TokenFileError("the token file must be a JSON object of token to identity")
    tokens: dict[str, Identity] = {}
    for token, entry in document.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise TokenFileError("every token needs an object with a `name`")
        scope = entry.get("scope")
        if scope not in ("read", "write"):
            raise TokenFileError(f"scope of {entry['name']} must be `read` or `write`")
        orgs = entry.get("orgs")
        tokens[token] = Identity(entry["name"], scope, None if orgs is None else tuple(orgs))
    return tokens


class TokenStore:
    """The token file, read again whenever it was replaced (a mounted Secret is)."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._tokens: dict[str, Identity] = {}
        if path is not None:
            self._reload(path)

    def find(self, token: str) -> Identity | None:
        if self._path is not None:
            # A replacement that is half written or wrong must not lock everybody out.
            try:
                self._reload(self._path)
            except (OSError, TokenFileError) as error:
                print(f"token file not reloaded: {error}", flush=True)
        return self._tokens.get(token)

    def _reload(self, path: Path) -> None:
        status = path.stat()
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        if stamp != self._stamp:
            self._tokens = parse_tokens(path.read_text())
            self._stamp = stamp

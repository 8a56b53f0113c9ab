"""Every FineTuneJob that we show to people: samples, and YAML blocks in the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from finetune_operator.vocabulary import KIND

_BLOCK = re.compile(r"^```ya?ml\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Document:
    """A FineTuneJob and where it stands."""

    place: str
    text: str

    @property
    def content(self) -> dict[str, Any]:
        """The document as Python reads it."""
        content: dict[str, Any] = yaml.safe_load(self.text)
        return content

    def __str__(self) -> str:
        return self.place


def finetunejobs(root: Path) -> Iterator[Document]:
    """All of them, in files' order."""
    for path in sorted((root / "manifests" / "samples").glob("*.yaml")):
        yield from _documents(str(path.relative_to(root)), path.read_text())
    for path in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        text = path.read_text() if path.exists() else ""
        for block in _BLOCK.finditer(text):
            line = text.count("\n", 0, block.start()) + 1
            yield from _documents(f"{path.relative_to(root)}:{line}", block[1])


def _documents(place: str, text: str) -> Iterator[Document]:
    for document in re.split(r"^---$", text, flags=re.MULTILINE):
        if re.search(rf"^kind: {KIND}$", document, re.MULTILINE):
            yield Document(place, document)

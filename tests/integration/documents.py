"""Every YAML that we show to people: the samples, and the blocks in README and docs/.

A block may be a part. What is a FineTuneJob's is completed to a whole one, what is the chart's goes
to Helm as values; whatever else a part belongs to is named in `PARTS_OF_OTHERS`.
"""

from __future__ import annotations

import copy
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from finetune_operator.api.crdgen import definition
from finetune_operator.vocabulary import API_VERSION, KIND
from unit.operator.builders import MINIMAL

Json = dict[str, Any]

_BLOCK = re.compile(r"^( *)```ya?ml[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
# Files for a tool of their own, no objects of an API server.
_FILES = ("kustomize.config.k8s.io/",)
# Parts of what others define: a key in it that tells, and what it is merged into.
PARTS_OF_OTHERS = {"healthCheckExprs": "manifests/flux/runs.yaml"}
# Stands for 64 digits where the digits say nothing.
_DIGEST = "sha256:…"


@dataclass(frozen=True)
class Document:
    """One YAML document and where it stands."""

    place: str
    text: str

    @property
    def content(self) -> Json:
        """The document as Python reads it; what is no object stands below an empty key."""
        content = yaml.safe_load(self.text)
        return content if isinstance(content, dict) else {"": content}

    def __str__(self) -> str:
        return self.place


def shown(root: Path) -> Iterator[Document]:
    """Every document of every block, in the order of files."""
    for path in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        text = path.read_text()
        for block in _BLOCK.finditer(text):
            place = f"{path.relative_to(root)}:{text.count(chr(10), 0, block.start()) + 1}"
            yield from _documents(place, textwrap.dedent(block[2]))


def finetunejobs(root: Path) -> Iterator[Document]:
    """All FineTuneJobs: samples, blocks, and parts of one in a block, completed."""
    for path in sorted((root / "manifests" / "samples").glob("*.yaml")):
        yield from _documents(str(path.relative_to(root)), path.read_text())
    for document in shown(root):
        if document.content.get("kind") == KIND:
            yield document
        elif is_part_of_a_finetunejob(document):
            yield Document(document.place, yaml.safe_dump(_completed(document.content)))


def objects(root: Path) -> Iterator[Document]:
    """Whole objects of other kinds, and parts of such, completed."""
    for document in shown(root):
        content = document.content
        if "kind" in content and content["kind"] != KIND and not is_file(document):
            yield document
        elif (whole := _whole_of_another(root, content)) is not None:
            yield Document(document.place, whole)


def values(root: Path, chart: Json) -> Iterator[Document]:
    """Values of the chart; `chart` are its own."""
    for document in shown(root):
        if _is_part(document) and document.content.keys() <= chart.keys():
            text = document.text.replace(_DIGEST, f"sha256:{'0f' * 32}")
            yield Document(document.place, text)


def unknown(root: Path, chart: Json) -> list[str]:
    """Blocks that no test looks at. There should be none."""
    seen = [*finetunejobs(root), *objects(root), *values(root, chart)]
    seen += [document for document in shown(root) if is_file(document)]
    places = {document.place for document in seen}
    return [document.place for document in shown(root) if document.place not in places]


def is_file(document: Document) -> bool:
    """Whether it is a file that a tool reads, as kustomize does, and no object."""
    return str(document.content.get("apiVersion", "")).startswith(_FILES)


def is_part_of_a_finetunejob(document: Document) -> bool:
    """Whether it holds fields of `spec` only, with that word around them or without."""
    fields = _fields(document.content)
    return _is_part(document) and bool(fields) and fields.keys() <= _spec_fields()


def _is_part(document: Document) -> bool:
    return "kind" not in document.content


def _fields(content: Json) -> Json:
    inner = content.get("spec") if content.keys() == {"spec"} else content
    return inner if isinstance(inner, dict) else {}


def _spec_fields() -> set[str]:
    (version,) = definition()["spec"]["versions"]
    root: Json = version["schema"]["openAPIV3Schema"]["properties"]
    return set(root["spec"]["properties"])


def _completed(part: Json) -> Json:
    """A whole FineTuneJob with these fields: what they leave out is that of the shortest one."""
    fields = _fields(part)
    spec = {**copy.deepcopy(MINIMAL), **fields}
    if "datasets" in fields:
        del spec["dataset"]
    if "dataset" in fields:
        spec["dataset"] = {**MINIMAL["dataset"], **fields["dataset"]}
    if "model" in fields:
        spec["model"] = {**MINIMAL["model"], **fields["model"]}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "shown"}, "spec": spec}


def _whole_of_another(root: Path, part: Json) -> str | None:
    for key, path in PARTS_OF_OTHERS.items():
        if "kind" not in part and key in _fields(part):
            whole = yaml.safe_load((root / path).read_text())
            whole["spec"].update(part["spec"])
            return yaml.safe_dump(whole)
    return None


def _documents(place: str, text: str) -> Iterator[Document]:
    for document in re.split(r"^---$", text, flags=re.MULTILINE):
        if yaml.safe_load(document) is not None:
            yield Document(place, document)

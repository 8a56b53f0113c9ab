"""Runs that people copy, samples and pages alike, do not fail on the model that they name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PLACES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "manifests" / "samples").glob("*.yaml")),
    ROOT / "helm" / "finetune-operator" / "templates" / "NOTES.txt",
]
# Formats whose rows the chat template writes.
CHATS = {"questionAnswer", "messages", "alpaca", "sharegpt"}
# Instruction-tuned by their name; what is on a claim, or at acme's, nobody knows.
HAS_A_TEMPLATE = re.compile(r"(?:-it|-Instruct)$|^pvc://|^hf://acme/")


def runs(path: Path) -> list[dict[str, Any]]:
    """The whole FineTuneJobs of a file or a page."""
    text = path.read_text()
    blocks = [text]
    if path.suffix == ".md":
        blocks = re.findall(r"^ *```ya?ml\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    elif path.suffix == ".txt":
        blocks = re.findall(r"<<EOF\n(.*?)\n *EOF", text, re.DOTALL)
    found = [part for block in blocks for part in yaml.safe_load_all(block)]
    return [part for part in found if isinstance(part, dict) and part.get("kind") == "FineTuneJob"]


SHOWN = [(path, run) for path in PLACES for run in runs(path)]


def formats(spec: dict[str, Any]) -> set[str]:
    return {
        name
        for dataset in spec.get("datasets") or [spec["dataset"]]
        for name in dataset.get("format", {})
    }


def test_there_are_runs_to_look_at() -> None:
    assert len(SHOWN) > 20


@pytest.mark.parametrize(
    ("path", "run"), SHOWN, ids=lambda value: value.stem if isinstance(value, Path) else ""
)
def test_what_needs_a_chat_template_has_one(path: Path, run: dict[str, Any]) -> None:
    spec = run["spec"]
    if formats(spec) & CHATS:
        model = spec["model"]
        assert "chatTemplate" in model or HAS_A_TEMPLATE.search(model["source"]), path.name

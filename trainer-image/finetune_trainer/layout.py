"""A model directory in Hugging Face layout: which of its files are what.

Belongs here: names and the chat template, needed by more than one stage. Does not: weights.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path, PurePath

_WEIGHT_SUFFIXES = frozenset(
    {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx"}
)
_TOKENIZER_NAMES = frozenset(
    {
        "added_tokens.json",
        "chat_template.jinja",
        "merges.txt",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
        "vocab.txt",
    }
)
_TOKENIZER_SUFFIXES = frozenset({".model", ".tiktoken"})


def companions(directory: Path) -> list[Path]:
    """The files that belong to the model beside its weights, their index and its card."""
    return [
        file
        for file in sorted(directory.iterdir())
        if file.is_file()
        and file.suffix not in _WEIGHT_SUFFIXES
        and not file.name.startswith(".")
        and not file.name.endswith((".index.json", "README.md"))
    ]


def write_companions(base: Path, target: Path) -> None:
    """Copy the base's companions, which `prepare` made those of the run."""
    for file in companions(base):
        shutil.copyfile(file, target / file.name)


def is_tokenizer(file: PurePath) -> bool:
    """Whether a model directory's file belongs to its tokenizer, the chat template included."""
    return file.name in _TOKENIZER_NAMES or file.suffix in _TOKENIZER_SUFFIXES


def chat_template_files(directory: Path, template: str) -> dict[str, bytes]:
    """The files, by name, that make `template` the one chat template of the tokenizer there."""
    files = {"chat_template.jinja": template.encode()}
    path = directory / "tokenizer_config.json"
    if path.exists():
        config = json.loads(path.read_bytes())
        if config.pop("chat_template", None) is not None:
            files[path.name] = json.dumps(config, indent=2, ensure_ascii=False).encode()
    return files


def has_chat_template(directory: Path) -> bool:
    """Whether the tokenizer there has one."""
    if (directory / "chat_template.jinja").exists():
        return True
    try:
        config = json.loads((directory / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and bool(config.get("chat_template"))

"""What surrounds the weights: config, tokenizer, chat template, generation config.

Copied from the base as they are, except where the merge or the run changed what they say.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from finetune_trainer.workspace import write_json

_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf"}


def copy_surroundings(base: Path, target: Path) -> None:
    """Copy every file that belongs to the model but its weights, their index and its card."""
    for file in sorted(base.iterdir()):
        skipped = file.suffix in _WEIGHTS or file.name.endswith((".index.json", "README.md"))
        if file.is_file() and not skipped and not file.name.startswith("."):
            shutil.copyfile(file, target / file.name)


def write_config(directory: Path, dtype: torch.dtype, *, untie: bool) -> None:
    """Make config.json say the weights' dtype and, with `untie`, that nothing is shared."""
    path = directory / "config.json"
    config: dict[str, Any] = json.loads(path.read_bytes())
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        # Composite models repeat both in the text model's part.
        if part is config or "dtype" in part or "torch_dtype" in part:
            part.pop("torch_dtype", None)
            part["dtype"] = str(dtype).removeprefix("torch.")
        if untie and (part is config or "tie_word_embeddings" in part):
            part["tie_word_embeddings"] = False
    write_json(path, config)


def write_chat_template(directory: Path, template: str) -> None:
    """Make `template` the tokenizer's chat template, and the only one."""
    (directory / "chat_template.jinja").write_text(template, encoding="utf-8")
    path = directory / "tokenizer_config.json"
    if path.exists():
        config: dict[str, Any] = json.loads(path.read_bytes())
        if config.pop("chat_template", None) is not None:
            write_json(path, config)

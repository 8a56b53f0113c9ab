"""What surrounds the merged weights: config, tokenizer, chat template, generation config.

Copied from the base as they are, except where the merge or the run changed what they say.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from finetune_trainer.layout import chat_template_files, companions
from finetune_trainer.workspace import write_json


def write_surroundings(base: Path, target: Path, chat_template: str | None) -> None:
    """Copy the base's files that hold no weights; a template of the run's replaces the base's."""
    for file in companions(base):
        shutil.copyfile(file, target / file.name)
    if chat_template is not None:
        for name, content in chat_template_files(target, chat_template).items():
            (target / name).write_bytes(content)


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

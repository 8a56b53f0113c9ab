"""What the merged model's config says, where the merge changed it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from finetune_trainer.workspace import write_json


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

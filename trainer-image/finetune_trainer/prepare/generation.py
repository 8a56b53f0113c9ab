"""Which tokens end a generated text: the model's own, and those that training teaches it to use.

A base model trained on a chat template learns another stop token than its own; a server that is not
told would let it run on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

GENERATION = "generation_config.json"


def stopping_at(
    directory: Path, config: PretrainedConfig, stops: Iterable[int]
) -> dict[str, bytes]:
    """The file, by name, that makes a model stop at `stops` too; none if it already does."""
    path = directory / GENERATION
    settings: dict[str, Any] = {}
    if path.exists():
        settings = json.loads(path.read_bytes())
    else:
        text = config.get_text_config()
        for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
            if (token := getattr(text, key, None)) is not None:
                settings[key] = token
    own = settings.get("eos_token_id")
    ends = [own] if isinstance(own, int) else list(own or ())
    added = sorted(set(stops) - set(ends))
    if not added:
        return {}
    # Else transformers derives it from config.json again, without what is added here.
    settings.pop("_from_model_config", None)
    settings["eos_token_id"] = [*ends, *added]
    return {path.name: json.dumps(settings, indent=2).encode()}

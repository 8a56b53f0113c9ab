"""What training leaves: a PEFT adapter, or a whole model in Hugging Face layout; each appears
whole.

Merging an adapter into its base is a stage of its own and not here.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoConfig, PreTrainedModel

from finetune_trainer.run import ModelSource
from finetune_trainer.workspace import Workspace, atomic_directory

HUB = "hf://"

# Weights in any format; everything else beside them (tokenizer, chat template, licence) goes along.
WEIGHT_SUFFIXES = frozenset(
    {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"}
)


def save_adapter(model: PeftModel, source: ModelSource, workspace: Workspace) -> Path:
    """Write `workspace.adapter`, which names its base as the Hub does, by repository and commit."""
    config = model.peft_config["default"]
    config.base_model_name_or_path = source.source.removeprefix(HUB)
    config.revision = None
    if source.source.startswith(HUB):
        prepared = workspace.read_result("prepare") or {}
        config.revision = prepared.get("modelCommit") or source.revision
    with atomic_directory(workspace.adapter) as directory:
        # Never the base's embeddings: deciding that by itself PEFT would ask the Hub.
        model.save_pretrained(directory, save_embedding_layers=False)
        # The model card is written by `upload`, with the results.
        (directory / "README.md").unlink(missing_ok=True)
    return workspace.adapter


def save_model(model: PreTrainedModel, workspace: Workspace) -> Path:
    """Write `workspace.merged` in the base's own number format, with all that came beside the
    base's weights.
    """
    dtype = AutoConfig.from_pretrained(workspace.model, local_files_only=True).dtype
    model.to(dtype if isinstance(dtype, torch.dtype) else torch.float32)
    with atomic_directory(workspace.merged) as directory:
        model.save_pretrained(directory)
        for file in sorted(workspace.model.iterdir()):
            target = directory / file.name
            if file.is_file() and not is_weight(file) and not target.exists():
                shutil.copyfile(file, target)
    return workspace.merged


def is_weight(path: Path) -> bool:
    """Whether a model directory's file holds weights or the index of their shards."""
    return path.suffix in WEIGHT_SUFFIXES or path.name.endswith(".index.json")

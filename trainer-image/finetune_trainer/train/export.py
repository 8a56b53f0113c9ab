"""What training leaves: a PEFT adapter, or a whole model in Hugging Face layout; each appears
whole.

Merging an adapter into its base is a stage of its own and not here.
"""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoConfig, PreTrainedModel

from finetune_trainer.layout import write_companions
from finetune_trainer.run import ModelSource
from finetune_trainer.train.setup import Context, Trained
from finetune_trainer.workspace import Workspace, atomic_directory

HUB = "hf://"


def save(trained: Trained, source: ModelSource, context: Context) -> str:
    """Write, from rank 0, what `trained` is for; the name of its directory in the workspace."""
    if context.group.is_main:
        if trained.adapter:
            save_adapter(trained.adapter, source, context.workspace)
        else:
            save_model(trained.model, context.workspace)
    context.group.barrier()
    return "adapter" if trained.adapter else "merged"


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
    """Write `workspace.merged` in the base's own number format, with the base's companions."""
    dtype = AutoConfig.from_pretrained(workspace.model, local_files_only=True).dtype
    model.to(dtype if isinstance(dtype, torch.dtype) else torch.float32)
    with atomic_directory(workspace.merged) as directory:
        write_companions(workspace.model, directory)
        # Last, because it knows best what config and generation config belong to these weights.
        model.save_pretrained(directory)
    return workspace.merged

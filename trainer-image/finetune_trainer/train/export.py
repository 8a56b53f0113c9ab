"""What training leaves: a PEFT adapter, or a whole model in Hugging Face layout; each appears
whole.

Merging an adapter into its base is a stage of its own and not here.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from finetune_trainer.layout import write_companions
from finetune_trainer.run import ModelSource
from finetune_trainer.train.methods import bottleneck_tuner
from finetune_trainer.train.methods.initialization import for_the_whole_base
from finetune_trainer.train.model import stored_dtype
from finetune_trainer.train.setup import Context, Trained
from finetune_trainer.workspace import Workspace, atomic_directory

HUB = "hf://"


def save(trained: Trained, source: ModelSource, context: Context) -> str:
    """Write, from rank 0, what `trained` is for; the name of its directory in the workspace.

    All ranks call it: each may hold only a part.
    """
    adapter, model = trained.adapter, trained.model
    owner = adapter or model
    tensors = {
        name: parameter
        for name, parameter in owner.named_parameters()
        if parameter.requires_grad or not adapter
    }
    context.group.heart.rest("exporting")
    weights = trained.engine.gather(tensors)
    if context.group.is_main:
        if adapter:
            save_adapter(adapter, weights, source, context.workspace)
        else:
            save_model(model, weights, context.workspace)
    context.group.barrier()
    return "adapter" if adapter else "merged"


def save_adapter(
    model: PeftModel, weights: dict[str, Tensor], source: ModelSource, workspace: Workspace
) -> Path:
    """Write `workspace.adapter`, which names its base as the Hub does, by repository and commit."""
    config = model.peft_config["default"]
    config.base_model_name_or_path = source.source.removeprefix(HUB)
    config.revision = None
    if source.source.startswith(HUB):
        prepared = workspace.read_result("prepare") or {}
        config.revision = prepared.get("modelCommit") or source.revision
    with atomic_directory(workspace.adapter) as directory:
        # Never the base's embeddings: deciding that by itself PEFT would ask the Hub.
        model.save_pretrained(directory, state_dict=weights, save_embedding_layers=False)
        if workspace.initial.is_dir():
            for_the_whole_base(directory, workspace.initial)
        if config.peft_type == bottleneck_tuner.PEFT_TYPE:
            # What loads it, for those who have PEFT alone.
            source_code = Path(bottleneck_tuner.__file__)
            shutil.copyfile(source_code, directory / source_code.name)
        # The model card is written by `upload`, with the results.
        (directory / "README.md").unlink(missing_ok=True)
    return workspace.adapter


def save_model(model: PreTrainedModel, weights: dict[str, Tensor], workspace: Workspace) -> Path:
    """Write `workspace.merged` in the base's own number format, with the base's companions."""
    dtype = stored_dtype(workspace.model)
    for name in weights:
        if weights[name].is_floating_point():
            weights[name] = weights[name].to(dtype)
    with atomic_directory(workspace.merged) as directory:
        write_companions(workspace.model, directory)
        # Late, because it knows best what config and generation config belong to these weights.
        model.save_pretrained(directory, state_dict={**_persistent_buffers(model), **weights})
        # It has told the format that was trained with.
        model.config.dtype = dtype
        model.config.save_pretrained(directory)
    return workspace.merged


def _persistent_buffers(model: PreTrainedModel) -> dict[str, Tensor]:
    persistent = model.state_dict()
    return {name: buffer.cpu() for name, buffer in model.named_buffers() if name in persistent}

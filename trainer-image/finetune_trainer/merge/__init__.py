"""`merge`: base + LoRA adapter become one model in Hugging Face layout, checked before it is named.

The steps are here; what is changed is decided in `lora`, written by `shards`, surrounded by `files`
and checked by `verify`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from finetune_trainer.architecture import auto_class, head_modules
from finetune_trainer.data.examples import Examples
from finetune_trainer.layout import write_companions
from finetune_trainer.merge import ia3
from finetune_trainer.merge.files import write_config
from finetune_trainer.merge.lora import Base, plan, require_mergeable
from finetune_trainer.merge.shards import write_merged
from finetune_trainer.merge.verify import TOLERANCE, Difference, compare, fixed_sequences
from finetune_trainer.outcome import DefectError, UserError
from finetune_trainer.run import Lora, Merge, Precision, Run, Task
from finetune_trainer.train.device import size_threads
from finetune_trainer.train.methods.quantization import nf4, quantized_linears
from finetune_trainer.weights import BrokenWeightsError, Stored, read_checkpoint, read_header
from finetune_trainer.workspace import Workspace, atomic_directory

_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_DTYPES = {
    Precision.AUTO: None,
    Precision.BFLOAT16: torch.bfloat16,
    Precision.FLOAT32: torch.float32,
}
_SEQUENCES = 4
_TOKENS = 32


def stage(run: Run, workspace: Workspace) -> tuple[str, dict[str, Any]]:
    """Write `merged/` from `model/` and `adapter/`; a second call with the same settings changes
    nothing.

    Raises:
        UserError: the adapter is no plain LoRA or changes nothing, the base is quantized, or files
            were damaged.
        DefectError: adapter and base do not belong together, or the merged model fails its check.
    """
    wanted = run.merge or Merge()
    made_with = {"base": wanted.base, "precision": str(wanted.precision)}
    done = workspace.read_result("merge")
    if done is not None and made_with.items() <= done.items() and workspace.merged.is_dir():
        return _message(done), done
    # A rerun has asked for another merge: what is told of the former must not outlive its files.
    workspace.result("merge").unlink(missing_ok=True)
    size_threads(local_world_size=1)
    logging.disable_progress_bar()
    config = json.loads((workspace.adapter / "adapter_config.json").read_bytes())
    scaled = config.get("peft_type") == "IA3"
    (ia3.require_mergeable if scaled else require_mergeable)(config)
    weights = workspace.adapter / _ADAPTER_WEIGHTS
    try:
        checkpoint, adapter = read_checkpoint(workspace.model), read_header(weights)
    except BrokenWeightsError as error:
        raise UserError(
            f"The workspace was damaged since training, because {error}: set spec.rerunToken to a "
            "new value to start again."
        ) from error
    base = describe_base(workspace.model, checkpoint, run.task)
    checkpoint = {name: checkpoint[name] for name in base.shapes}
    quantization = None
    if wanted.base == "Dequantized" and run.method.lora:
        base = replace(base, **_as_trained(run.method.lora, workspace))
        quantization = nf4(workspace.model, run.method.lora.modules_to_save, base.dtype)
    shapes = {name: stored.shape for name, stored in adapter.items()}
    todo = ia3.plan(shapes, base) if scaled else plan(config, shapes, base)
    precision = _DTYPES[wanted.precision]
    with atomic_directory(workspace.merged) as target:
        write_companions(workspace.model, target)
        written = write_merged(checkpoint, todo, weights, target, precision)
        if not written.changed:
            raise UserError(
                "The merged model equals the base, because the adapter changes no weight by what "
                "the number format can hold: raise spec.training.learningRate or the number of "
                "steps, or set spec.merge.precision to Float32."
            )
        write_config(target, written.dtype, untie=bool(todo.untied))
        difference = compare(
            workspace.model,
            workspace.adapter,
            target,
            _sequences(workspace, target),
            quantization=quantization,
            task=run.task,
        )
        formats = {written.dtype, base.dtype if base.quantized else written.dtype}
        _require_equal(
            difference, max(TOLERANCE.get(dtype, TOLERANCE[torch.float32]) for dtype in formats)
        )
    lost = written.unchanged_elements / written.elements
    print(
        f"merge: logits within {difference.error:.2g} of base + adapter's, relative (the adapter "
        f"changed them by {difference.effect:.2g}); rounding left {lost:.1%} of the adapted "
        "weights as they were",
        flush=True,
    )
    result = {
        "merged": workspace.merged.name,
        "tensorsMerged": written.changed,
        "relativeLogitDifference": difference.error,
        **made_with,
    }
    return _message(result), result


def describe_base(
    directory: Path, checkpoint: dict[str, Stored], task: Task = Task.GENERATION
) -> Base:
    """Names, ties and layouts of the base model, from its config and headers; no weight is read.

    Of a model that gets a head for labels, the heads that it had belong no longer to it.

    Raises:
        UserError: the base is quantized.
    """
    config = AutoConfig.from_pretrained(directory)
    if getattr(config, "quantization_config", None):
        raise UserError(
            "The base model is quantized, and an adapter cannot be merged into it: "
            "set spec.model.source to the model that is not quantized, or "
            "spec.upload.artifacts to [Adapter]."
        )
    with torch.device("meta"):
        model = auto_class(task).from_config(config)
    transposed = {name for name, module in model.named_modules() if isinstance(module, Conv1D)}
    prefix = f"{model.base_model_prefix}."
    names = set(checkpoint)
    if task.has_labels and any(name.startswith(prefix) for name in names):
        names = {name for name in names if name.startswith(prefix)}
    return Base(
        shapes={name: stored.shape for name, stored in checkpoint.items() if name in names},
        heads=frozenset(head_modules(model, task)),
        prefix=model.base_model_prefix,
        tied=model.all_tied_weights_keys,
        transposed=transposed.__contains__,
    )


def _as_trained(lora: Lora, workspace: Workspace) -> dict[str, Any]:
    """The modules that were quantized in training, and the format that they were rounded from."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(workspace.model))
    trained = workspace.read_result("train") or {}
    return {
        "quantized": frozenset(quantized_linears(model, lora.modules_to_save)),
        "dtype": torch.bfloat16 if trained.get("precision") == "bfloat16" else torch.float32,
    }


def _sequences(workspace: Workspace, model: Path) -> list[list[int]]:
    """A few beginnings of the run's own examples, else fixed token ids."""
    for directory in (workspace.data / "validation", workspace.data / "train", workspace.data):
        if (directory / "offsets.npy").exists():
            examples = Examples(directory)
            count = min(_SEQUENCES, len(examples))
            if count:
                return [examples[index].tokens[:_TOKENS].tolist() for index in range(count)]
    vocabulary = AutoConfig.from_pretrained(model).get_text_config().vocab_size
    return fixed_sequences(vocabulary, _SEQUENCES, _TOKENS)


def _require_equal(difference: Difference, tolerance: float) -> None:
    if not difference.within(tolerance):
        raise DefectError(
            "The merged model is not what was trained: its logits differ by "
            f"{difference.error:.1%} from those of base and adapter, and at most {tolerance:.1%} "
            "is allowed."
        )


def _message(result: dict[str, Any]) -> str:
    return (
        f"Merged the adapter into {result['tensorsMerged']} tensors; its logits are within "
        f"{100 * result['relativeLogitDifference']:.2g} % of those of base and adapter."
    )

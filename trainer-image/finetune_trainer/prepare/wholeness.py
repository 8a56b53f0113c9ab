"""Whether a model's weights are all there, judged by their headers: no weight is read.

transformers fills what a checkpoint lacks with random values and says so in a log only; a model
that was partly random would be trained and published as if nothing were wrong.
"""

from __future__ import annotations

from pathlib import Path

from finetune_trainer.architecture import auto_class, is_of_head
from finetune_trainer.outcome import UserError
from finetune_trainer.run import Task
from finetune_trainer.weights import BrokenWeightsError, read_checkpoint


def require_whole(directory: Path, origin: str, task: Task = Task.GENERATION) -> None:
    """Compare the files of the model in `directory` with each other and with its architecture.

    Raises:
        UserError: a file is missing or cut off, or a tensor is missing or of another shape.
    """
    try:
        read_checkpoint(directory)
        if problem := _mismatch(directory, task):
            raise BrokenWeightsError(problem)
    except BrokenWeightsError as error:
        raise UserError(
            f"{origin} cannot be trained, because {error}: restore it, or set spec.model.source to "
            "a model that is whole."
        ) from error


def _mismatch(directory: Path, task: Task) -> str | None:
    """What transformers would not find in the files, tied weights and its own renamings aside."""
    try:
        # On torch's meta device tensors have a shape and no storage.
        model, info = auto_class(task).from_pretrained(
            directory,
            device_map="meta",
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except (RuntimeError, ValueError) as error:
        words = " ".join(str(error).split()).rstrip(".")[:200]
        return f"transformers cannot load its weights ({words})"
    # The head that tells labels is made by the training.
    if missing := sorted(key for key in info["missing_keys"] if not is_of_head(key, model, task)):
        more = f" and {len(missing) - 1} more tensors" if len(missing) > 1 else ""
        return f"its weights lack {missing[0]}{more}"
    for name, found, expected in sorted(info["mismatched_keys"]):
        if not is_of_head(name, model, task):
            return (
                f"its weights hold {name} as {list(found)} where config.json asks for "
                f"{list(expected)}"
            )
    return None

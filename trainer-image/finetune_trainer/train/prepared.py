"""What `prepare` left in the workspace: that it is this plan's and whole, told before it is used.

Whether model, data and plan suit each other was decided there and is not asked again.
"""

from __future__ import annotations

import json

from finetune_trainer.data.examples import BrokenExamplesError, Examples
from finetune_trainer.outcome import UserError
from finetune_trainer.weights import BrokenWeightsError, read_checkpoint
from finetune_trainer.workspace import Workspace

_AGAIN = "set spec.rerunToken to another value, so that prepare brings it again"


def load_examples(workspace: Workspace, plan_hash: str) -> tuple[Examples, Examples | None]:
    """Those to train on, and those to validate on if there are any.

    Raises:
        UserError: they are those of another plan, damaged or none.
    """
    try:
        prepared = json.loads((workspace.data / "meta.json").read_bytes())["planHash"]
    except (FileNotFoundError, ValueError, KeyError):
        raise UserError(f"The workspace holds no prepared data: {_AGAIN}.") from None
    if prepared != plan_hash:
        raise UserError(
            f"The workspace holds data of plan {prepared}, not of {plan_hash}, because another run "
            "has used it: name a claim in spec.storage.claimName that no other run has, and set "
            "spec.rerunToken to another value."
        )
    try:
        train = Examples(workspace.data / "train")
        directory = workspace.data / "validation"
        validation = Examples(directory) if directory.is_dir() else None
    except BrokenExamplesError as error:
        raise UserError(f"The prepared data are broken, because {error}: {_AGAIN}.") from error
    if not len(train):
        raise UserError("spec.dataset.split has no example to train on; choose another split.")
    if validation is not None and not len(validation):
        raise UserError(
            "spec.dataset.validation has no example to measure on: choose another split or a "
            "larger fraction, or leave validation out."
        )
    return train, validation


def require_whole_model(workspace: Workspace) -> None:
    """The base model's files are there, as long as they should be, and can be read.

    Raises:
        UserError: they are not.
    """
    try:
        config = json.loads((workspace.model / "config.json").read_bytes())
        if "model_type" not in config:
            raise BrokenWeightsError("config.json names no model_type")
        read_checkpoint(workspace.model)
    except FileNotFoundError:
        raise UserError(f"The base model has no config.json in the workspace: {_AGAIN}.") from None
    except (ValueError, BrokenWeightsError) as error:
        clause = error if isinstance(error, BrokenWeightsError) else "config.json is damaged"
        raise UserError(
            f"The base model in the workspace is broken, because {clause}: {_AGAIN}."
        ) from error

"""Where the values of a run go besides its status: `spec.tracking`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from finetune_operator.api.schema import ApiModel, Cel


class TensorBoard(ApiModel):
    """Event files in the workspace, in logs/tensorboard."""


class Wandb(ApiModel):
    """An offline run in the workspace, in logs/wandb; `wandb sync` sends it."""

    project: Annotated[str, Field(min_length=1, max_length=128)] = Field(
        description="Project of the run."
    )


class Mlflow(ApiModel):
    """A run in a file store in the workspace, in logs/mlflow."""

    experiment: Annotated[str, Field(min_length=1, max_length=128)] = Field(
        description="Experiment of the run."
    )


class Tracking(ApiModel):
    """Trackers that record the run."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "has(self.tensorboard) || has(self.wandb) || has(self.mlflow)",
            "tracking needs a tracker: set tensorboard, wandb or mlflow, or remove tracking",
        ),
    )

    tensorboard: TensorBoard | None = Field(
        default=None, description="Write TensorBoard's event files to the workspace."
    )
    wandb: Wandb | None = Field(
        default=None, description="Record the run for Weights & Biases, offline."
    )
    mlflow: Mlflow | None = Field(
        default=None, description="Record the run for MLflow, in its file store."
    )

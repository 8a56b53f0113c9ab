"""The whole of `run.json`, read and described."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from finetune_trainer.outcome import UserError
from finetune_trainer.run.contract import Contract
from finetune_trainer.run.data import DatasetSource, ModelSource, Task
from finetune_trainer.run.method import Method
from finetune_trainer.run.surroundings import Merge, Parallelism, Resources, Tracking, Upload
from finetune_trainer.run.training import Training

RUN_FILE = "/etc/finetune/run.json"


class Continues(Contract):
    """What a plan goes on from: the plan before it, and by which plan each earlier stage works."""

    plan: str
    stages: dict[str, str]


class Run(Contract):
    """The whole plan. `plan_hash` names it; the same hash means the same run.

    Exactly one of `dataset` and `datasets` is there.
    """

    contract_version: Literal["v1alpha1"]
    name: str
    namespace: str
    plan_hash: str
    continues: Continues | None = None
    task: Task = Task.GENERATION
    model: ModelSource
    dataset: DatasetSource | None = None
    datasets: list[DatasetSource] = Field(default_factory=list)
    method: Method
    training: Training
    resources: Resources
    parallelism: Parallelism = Parallelism()
    tracking: Tracking = Tracking()
    merge: Merge | None = None
    upload: Upload | None = None

    @model_validator(mode="after")
    def _require_data(self) -> Self:
        if (self.dataset is None) == (not self.datasets):
            raise ValueError("exactly one of dataset and datasets must be there")
        return self

    def works_by(self, stage: str) -> str:
        """The hash of the plan that this stage works by: an earlier one, if a rerun has changed
        only what later stages are told.
        """
        earlier = self.continues.stages if self.continues else {}
        return earlier.get(stage, self.plan_hash)

    @property
    def data(self) -> dict[str, DatasetSource]:
        """The data sets by the name of their field: `dataset`, or `datasets[0]` and so on."""
        if self.dataset is not None:
            return {"dataset": self.dataset}
        return {f"datasets[{index}]": part for index, part in enumerate(self.datasets)}


def load_run(path: str | Path | None = None) -> Run:
    """The plan from `path`, else from `FINETUNE_RUN_FILE`, else from `/etc/finetune/run.json`.

    Raises:
        UserError: it cannot be read or does not keep this image's version of the contract.
    """
    where = Path(path or os.environ.get("FINETUNE_RUN_FILE", RUN_FILE))
    try:
        return Run.model_validate_json(where.read_bytes())
    except (OSError, ValidationError) as error:
        raise UserError(
            f"The trainer image cannot read its plan {where} ({_words(error)}): set "
            "spec.trainer.image to an image made for this version of the operator."
        ) from error


def _words(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")


def run_schema() -> str:
    """The contract's JSON schema of `run.json`, as docs/run.schema.json keeps it."""
    schema = Run.model_json_schema(by_alias=True)
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"

"""What the model learns to do: `spec.task`, and the settings that belong to one task alone.

The formats of the tasks' data are in data.py; that task and format belong together is said here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from finetune_operator.api.method import QUANTIZED
from finetune_operator.api.schema import ApiModel, Cel
from finetune_operator.api.values import Decimal


class Task(StrEnum):
    """What the model learns to do."""

    GENERATION = "Generation"
    PREFERENCE = "Preference"
    CLASSIFICATION = "Classification"
    TOKEN_CLASSIFICATION = "TokenClassification"


class PreferenceLoss(StrEnum):
    """How preferences are learned."""

    DPO = "DPO"
    ORPO = "ORPO"
    SIMPO = "SimPO"
    KTO = "KTO"


# How much an answer counts.
_Weight = Annotated[
    Decimal,
    Cel(
        "double(self) > 0.0 && double(self) <= 100.0",
        'the weight must be greater than 0 and at most 100, for example "1.5"',
    ),
]


class Preference(ApiModel):
    """How preferences are learned."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!has(self.gamma) || self.loss == 'SimPO'",
            "gamma is SimPO's margin: remove gamma, or set loss to SimPO",
            field_path=".gamma",
            forbidden=True,
        ),
        Cel(
            "!(has(self.desirableWeight) || has(self.undesirableWeight)) || self.loss == 'KTO'",
            "desirableWeight and undesirableWeight are KTO's: remove them, or set loss to KTO",
            forbidden=True,
        ),
    )

    loss: PreferenceLoss = Field(
        default=PreferenceLoss.DPO,
        description="DPO (Rafailov et al., 2023) keeps close to the base model; ORPO (Hong et al., "
        "2024) learns the preferred answers as well; SimPO (Meng et al., 2024) compares means per "
        "token, without the base; KTO (Ethayarajh et al., 2024) takes answers that were judged one "
        "by one, and pairs as one of each kind.",
    )
    beta: (
        Annotated[
            Decimal,
            Cel(
                "double(self) > 0.0 && double(self) <= 100.0",
                'beta must be greater than 0 and at most 100, for example "0.1"',
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="How strongly preferences count; for ORPO the paper's lambda. "
        'Default: "0.1" for DPO, ORPO and KTO, "2" for SimPO.',
    )
    gamma: (
        Annotated[
            Decimal,
            Cel("double(self) <= 100.0", 'gamma must be at most 100, for example "0.5"'),
        ]
        | None
    ) = Field(
        default=None,
        description="SimPO's margin: how much more reward the preferred answer is to have. "
        'Default: "0.5".',
    )
    desirable_weight: _Weight | None = Field(
        default=None,
        description="How much KTO counts a desirable answer. Times their number it should be 1 to "
        '4/3 of the same of the undesirable ones. Default: "1".',
    )
    undesirable_weight: _Weight | None = Field(
        default=None, description='How much KTO counts an undesirable answer. Default: "1".'
    )


def _belong_together(task: Task, member: str, what: str) -> tuple[Cel, Cel]:
    """`task` takes data in the format `member` and in no other, and no other task takes it."""
    return (
        Cel(
            f"self.task != '{task}' || ((!has(self.dataset) || has(self.dataset.format.{member})) "
            f"&& (!has(self.datasets) || self.datasets.all(d, has(d.format.{member}))))",
            f"task {task} needs dataset.format.{member}: set it to the columns with {what}",
            field_path=".task",
        ),
        Cel(
            f"self.task == '{task}' || ((!has(self.dataset) || !has(self.dataset.format.{member})) "
            f"&& (!has(self.datasets) || !self.datasets.exists(d, has(d.format.{member}))))",
            f"dataset.format.{member} is for task {task}: set task, or another format",
            field_path=".task",
        ),
    )


# Of the whole spec.
RULES = (
    *_belong_together(Task.PREFERENCE, "preference", "the answers"),
    *_belong_together(Task.CLASSIFICATION, "classification", "text and label"),
    *_belong_together(Task.TOKEN_CLASSIFICATION, "tokenClassification", "words and tags"),
    Cel(
        "!(self.task in ['Classification', 'TokenClassification']) || "
        "!has(self.training.packing) || !self.training.packing",
        "training.packing is for tasks Generation and Preference, others have one document in a "
        "row: remove packing",
        field_path=".training.packing",
        forbidden=True,
    ),
    *(
        Cel(
            "!(self.task in ['Classification', 'TokenClassification']) || "
            f"!has(self.method.{method}) || !has(self.method.{method}.quantization)",
            f"method.{method}.quantization is for tasks Generation and Preference: remove "
            "quantization",
            field_path=f".method.{method}.quantization",
            forbidden=True,
        )
        for method in QUANTIZED
    ),
    Cel(
        "self.task == 'Generation' || "
        "!(has(self.method.prompt) || has(self.method.prefix) || has(self.method.pTuning))",
        "method.prompt, prefix and pTuning are for task Generation: use method.lora or method.full",
        field_path=".method",
        forbidden=True,
    ),
    Cel(
        "!(self.task in ['Classification', 'TokenClassification']) || !has(self.method.ia3)",
        "method.ia3 is for tasks Generation and Preference: use method.lora or method.full",
        field_path=".method",
        forbidden=True,
    ),
    Cel(
        "(has(self.training.preference) && self.training.preference.loss == 'KTO') || "
        "((!has(self.dataset) || !has(self.dataset.format.preference) || "
        "!has(self.dataset.format.preference.completion)) && "
        "(!has(self.datasets) || self.datasets.all(d, !has(d.format.preference) || "
        "!has(d.format.preference.completion))))",
        "dataset.format.preference.completion is one answer, but training.preference.loss compares "
        "two: set loss to KTO, or name the columns chosen and rejected",
        field_path=".task",
    ),
    Cel(
        "self.task == 'Preference' || !has(self.training.preference)",
        "training.preference is for task Preference: set task, or remove training.preference",
        field_path=".training.preference",
        forbidden=True,
    ),
)

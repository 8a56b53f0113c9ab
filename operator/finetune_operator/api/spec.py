"""`FineTuneJob.spec`: what a user writes. Its parts have modules of their own; import from here.

Every field is honoured by code. Defaults that depend on no other field stand here and so in the
CRD; those that do are derived in core/plan.py and shown in `status.resolved`. Field descriptions
are the CRD's, and `kubectl explain`'s.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from finetune_operator.api.data import (
    Alpaca,
    DataFormat,
    Dataset,
    LabelledText,
    LossOn,
    Messages,
    Model,
    PreferenceColumns,
    PromptCompletion,
    QuestionAnswer,
    ShareGpt,
    TaggedTokens,
    Template,
    Text,
    Validation,
    WeightedDataset,
)
from finetune_operator.api.method import QUANTIZED, Full, Lora, Method
from finetune_operator.api.method import RULES as METHOD_RULES
from finetune_operator.api.optimization import (
    Optimizer,
    OptimizerType,
    Scheduler,
    SchedulerType,
)
from finetune_operator.api.output import Artifact, Merge, Upload
from finetune_operator.api.parallelism import DeepSpeed, Fsdp, Offload, Parallelism, Strategy
from finetune_operator.api.pods import (
    AccessMode,
    PullPolicy,
    Reclaim,
    Resources,
    RunPolicy,
    Scheduling,
    Storage,
    Toleration,
    Trainer,
)
from finetune_operator.api.schema import DEFAULTS_WHEN_READ, ApiModel, Cel
from finetune_operator.api.task import RULES as TASK_RULES
from finetune_operator.api.task import Preference, PreferenceLoss, Task
from finetune_operator.api.tracking import Tracking
from finetune_operator.api.tuning import (
    Checkpoint,
    Precision,
    Training,
)
from finetune_operator.api.values import LocalRef, SecretKeyRef

__all__ = [
    "RUN_DEFINING",
    "AccessMode",
    "Alpaca",
    "Artifact",
    "Checkpoint",
    "DataFormat",
    "Dataset",
    "DeepSpeed",
    "Fsdp",
    "Full",
    "LabelledText",
    "LocalRef",
    "Lora",
    "LossOn",
    "Merge",
    "Messages",
    "Method",
    "Model",
    "Offload",
    "Optimizer",
    "OptimizerType",
    "Parallelism",
    "Precision",
    "Preference",
    "PreferenceColumns",
    "PreferenceLoss",
    "PromptCompletion",
    "PullPolicy",
    "QuestionAnswer",
    "Reclaim",
    "Resources",
    "RunPolicy",
    "Scheduler",
    "SchedulerType",
    "Scheduling",
    "SecretKeyRef",
    "ShareGpt",
    "Spec",
    "Storage",
    "Strategy",
    "TaggedTokens",
    "Task",
    "Template",
    "Text",
    "Toleration",
    "Tracking",
    "Trainer",
    "Training",
    "Upload",
    "Validation",
    "WeightedDataset",
]


class Spec(ApiModel):
    """What to train, on what, how, and where the result goes."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "has(self.dataset) != has(self.datasets)",
            "exactly one of dataset and datasets must be set: dataset is for one data set, "
            "datasets for several that are mixed",
            forbidden=True,
        ),
        *METHOD_RULES,
        Cel(
            "!has(self.training.loss) || self.task == 'Generation'",
            "training.loss takes the place of task Generation's loss: remove loss, or set task to "
            "Generation",
            field_path=".training.loss",
            forbidden=True,
        ),
        Cel(
            "self.training.optimizer.type != 'Adafactor' || "
            "!(self.parallelism.strategy in ['FSDP', 'DeepSpeed'])",
            "training.optimizer Adafactor needs whole matrices, and parallelism.strategy FSDP and "
            "DeepSpeed have parts of them: set strategy to DDP, or the optimizer's type to AdamW",
            field_path=".training.optimizer",
        ),
        Cel(
            "!has(self.training.evaluateEverySteps) || "
            "(has(self.dataset) && has(self.dataset.validation)) || "
            "(has(self.datasets) && self.datasets.exists(d, has(d.validation)))",
            "training.evaluateEverySteps measures held-out data, and there is none: set "
            "dataset.validation, or remove evaluateEverySteps",
            field_path=".training.evaluateEverySteps",
            forbidden=True,
        ),
        Cel(
            "self.training.samplesAtEvaluation == 0 || (self.task == 'Generation' && ("
            "(has(self.dataset) && has(self.dataset.validation)) || "
            "(has(self.datasets) && self.datasets.exists(d, has(d.validation)))))",
            "training.samplesAtEvaluation answers prompts of held-out data of task Generation: set "
            "dataset.validation, or remove samplesAtEvaluation",
            field_path=".training.samplesAtEvaluation",
            forbidden=True,
        ),
        Cel(
            "!has(self.training.earlyStopping) || has(self.training.evaluateEverySteps)",
            "training.earlyStopping looks at the validation loss on the way, which is not "
            "measured: set training.evaluateEverySteps and dataset.validation, or remove "
            "earlyStopping",
            field_path=".training.earlyStopping",
            forbidden=True,
        ),
        Cel(
            "!self.training.loadBestModelAtEnd || has(self.training.evaluateEverySteps)",
            "training.loadBestModelAtEnd chooses by the validation loss on the way, which is not "
            "measured: set training.evaluateEverySteps and dataset.validation, or remove "
            "loadBestModelAtEnd",
            field_path=".training.loadBestModelAtEnd",
            forbidden=True,
        ),
        *(
            Cel(
                f"!has(self.method.{method}) || !has(self.method.{method}.quantization) || "
                "!(self.parallelism.strategy == 'DeepSpeed' && "
                "(!has(self.parallelism.deepspeed) || self.parallelism.deepspeed.stage == 3))",
                "parallelism.strategy DeepSpeed in stage 3 cannot share weights that "
                f"method.{method}.quantization packs: set strategy to FSDP or DDP, or remove "
                "quantization",
                field_path=".parallelism.strategy",
            )
            for method in QUANTIZED
        ),
        Cel(
            "self.resources.nodes == 1 || !has(self.storage.accessMode) || "
            "self.storage.accessMode == 'ReadWriteMany'",
            "resources.nodes is greater than 1, so storage.accessMode must be ReadWriteMany: set "
            "it, or set storage.claimName to a claim that has it",
            field_path=".storage.accessMode",
        ),
        *TASK_RULES,
    )

    suspend: bool | None = Field(
        default=None,
        description="true stops the pods (training saves a checkpoint first) and starts none; "
        "false or absent goes on from there.",
    )
    rerun_token: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="A new value makes a failed run go on from the stage that failed, and a "
        "finished one start over. Fields that are fixed after start may change together with it: "
        "if that changes what is trained, the image or the claim, the run starts over; if only "
        "what merge or upload is told, also of a finished run, it goes on from there and keeps "
        "what is trained; Secrets, CPU, memory and the like make only the present stage begin "
        "again; a larger storage.size lets the claim grow.",
    )
    task: Task = Field(
        default=Task.GENERATION,
        description="What the model learns: Generation (text, from examples of it), Preference "
        "(which answers are better, or good), Classification (the class of a text) or "
        "TokenClassification (a tag for every word). The last two add a new output layer.",
    )
    model: Model = Field(description="The base model.")
    dataset: Dataset | None = Field(
        default=None, description="The training data, if it is one data set."
    )
    datasets: (
        Annotated[
            list[WeightedDataset],
            Field(min_length=1, max_length=16, json_schema_extra={DEFAULTS_WHEN_READ: True}),
            Cel(
                "self.all(d, has(d.weight)) || !self.exists(d, has(d.weight))",
                "datasets must all have a weight, or none: without weights every row of each is "
                "trained once an epoch",
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="Several data sets that are trained on together, each with its own format. "
        "Without weights an epoch has every row of each once. With weights the rows are shared out "
        "in proportion, and an epoch ends where the first data set would run out: none comes twice "
        "in it, and what a data set has beyond its share, drawn by training.seed, is left out of "
        "all epochs. Held-out rows do not count; those of all data sets are measured together.",
    )
    method: Method = Field(description="What is trained: exactly one member.")
    training: Training = Field(default=Training(), description="How long and with which settings.")
    resources: Resources = Field(default=Resources(), description="What the training pods ask for.")
    parallelism: Parallelism = Field(
        default=Parallelism(), description="How the training processes share the model."
    )
    merge: Merge | None = Field(
        default=None,
        description="Merge the adapter into the base model. Runs anyway when the upload has "
        "Merged.",
    )
    upload: Upload | None = Field(
        default=None, description="Publish the result on the Hugging Face Hub."
    )
    storage: Storage = Field(default=Storage(), description="The workspace that all stages share.")
    scheduling: Scheduling = Field(
        default=Scheduling(),
        description="Where the pods may run. May change at any time, for stages that start later "
        "or still wait; with a new rerunToken also for the one that runs.",
    )
    run_policy: RunPolicy = Field(default=RunPolicy(), description="How the run is kept going.")
    tracking: Tracking | None = Field(
        default=None, description="Experiment trackers that record the training."
    )
    trainer: Trainer = Field(default=Trainer(), description="The image that runs the stages.")


# What defines a run: fixed once it has started (the rule stands at the root, where status is seen).
RUN_DEFINING = (
    "task",
    "model",
    "dataset",
    "datasets",
    "method",
    "training",
    "resources",
    "parallelism",
    "merge",
    "upload",
    "storage",
    "tracking",
    "trainer",
)
# Of these, what no stage before merge is told.
AFTER_TRAINING = ("merge", "upload")

"""`FineTuneJob.spec`: what a user writes.

Every field is honoured by code. Defaults that depend on no other field stand here and so in the CRD; those that do
are derived in core/plan.py and shown in `status.resolved`. Field descriptions are the CRD's, and `kubectl explain`'s.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from finetune_operator.api.schema import ApiModel, Cel, Decimal, rules

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
SOURCE = (
    r"^(hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"
    r"|pvc://[a-z0-9][-a-z0-9.]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*)$"
)
REVISION = r"^[A-Za-z0-9][A-Za-z0-9._/-]*$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$"
COLUMN = Field(min_length=1, max_length=128)

Column = Annotated[str, COLUMN]
Source = Annotated[
    str,
    Field(max_length=512, pattern=SOURCE),
    rules(
        Cel(
            "self.startsWith('hf://') || self.startsWith('pvc://')",
            "must be hf://OWNER/NAME (Hugging Face Hub) or pvc://CLAIM/PATH (a volume claim)",
        )
    ),
]
Revision = Annotated[str, Field(min_length=1, max_length=128, pattern=REVISION)]
Quantity = Annotated[str, Field(max_length=32, pattern=QUANTITY)]
NoRevisionOfClaim = Cel(
    "!has(self.revision) || self.source.startsWith('hf://')",
    "revision belongs to an hf:// source: remove revision, or use hf://OWNER/NAME",
)


class SecretKeyRef(ApiModel):
    """A key of a Secret in the same namespace."""

    name: str = Field(
        min_length=1, max_length=253, pattern=DNS_SUBDOMAIN, description="Name of the Secret."
    )
    key: str = Field(
        default="token",
        min_length=1,
        max_length=253,
        pattern=r"^[-._a-zA-Z0-9]+$",
        description="Key in the Secret that holds the token.",
    )


class Model(ApiModel):
    """The base model."""

    cel: ClassVar = (NoRevisionOfClaim,)

    source: Source = Field(
        description="Where the base model is: hf://OWNER/NAME, or pvc://CLAIM/PATH for a model "
        "directory on a volume claim of this namespace."
    )
    revision: Revision | None = Field(
        default=None,
        description="Branch, tag or commit of an hf:// source. Resolved to a commit once, at "
        "start; the commit is shown in status.resolved. Default: main.",
    )
    token_secret_ref: SecretKeyRef | None = Field(
        default=None,
        description="Secret with a Hub token that may read the model; needed for private and "
        "gated models.",
    )
    chat_template: str | None = Field(
        default=None,
        min_length=1,
        max_length=16384,
        description="Jinja chat template that replaces the model's own, or gives one to a model "
        "without.",
    )


class QuestionAnswer(ApiModel):
    """One question and one answer a row; rendered as a chat of two turns."""

    question: Column = Field(default="question", description="Column with the question.")
    answer: Column = Field(default="answer", description="Column with the answer.")
    system: Column | None = Field(default=None, description="Column with a system prompt.")


class Messages(ApiModel):
    """A list of {role, content} a row, as chat APIs use it."""

    messages: Column = Field(default="messages", description="Column with the list.")


class PromptCompletion(ApiModel):
    """Plain text, continued; no chat template is applied."""

    prompt: Column = Field(default="prompt", description="Column with the prompt.")
    completion: Column = Field(default="completion", description="Column with the continuation.")


class Alpaca(ApiModel):
    """Instruction, optional input, output; rendered as a chat of two turns."""

    instruction: Column = Field(default="instruction", description="Column with the instruction.")
    input: Column = Field(
        default="input", description="Column with the input; rows may leave it empty."
    )
    output: Column = Field(default="output", description="Column with the answer.")


class Template(ApiModel):
    """Texts with {column} placeholders; rendered as a chat of two turns."""

    prompt: str = Field(
        min_length=1,
        max_length=8192,
        description='User turn with column names in braces, as in "Summarize: {article}".',
    )
    completion: str = Field(
        min_length=1,
        max_length=8192,
        description='Assistant turn with column names in braces, as in "{summary}".',
    )


class Text(ApiModel):
    """Raw text; every token is trained."""

    text: Column = Field(default="text", description="Column with the text.")


class DataFormat(ApiModel):
    """How a row becomes an example: exactly one member."""

    cel: ClassVar = (
        Cel(
            "[has(self.questionAnswer), has(self.messages), has(self.promptCompletion), "
            "has(self.alpaca), has(self.template), has(self.text)].filter(x, x).size() == 1",
            "exactly one of questionAnswer, messages, promptCompletion, alpaca, template, text "
            "must be set: keep the one that matches the data",
        ),
    )

    question_answer: QuestionAnswer | None = Field(
        default=None, description="Columns with a question and an answer."
    )
    messages: Messages | None = Field(
        default=None, description="A column with a list of {role, content} messages."
    )
    prompt_completion: PromptCompletion | None = Field(
        default=None, description="Columns with a plain prompt and its continuation."
    )
    alpaca: Alpaca | None = Field(
        default=None, description="Columns instruction, input and output."
    )
    template: Template | None = Field(
        default=None, description="Turns written as text with {column} placeholders."
    )
    text: Text | None = Field(default=None, description="A column with raw text.")


class LossOn(StrEnum):
    """Which tokens are trained."""

    COMPLETIONS = "Completions"
    ALL_TOKENS = "AllTokens"
    LAST_TURN = "LastTurn"


class Validation(ApiModel):
    """Held-out data: exactly one member."""

    cel: ClassVar = (
        Cel(
            "has(self.fraction) != has(self.split)",
            "exactly one of fraction and split must be set: fraction holds out rows of the "
            "training split, split names one of its own",
        ),
        Cel(
            "!has(self.fraction) || (double(self.fraction) > 0.0 && double(self.fraction) < 1.0)",
            'fraction must be greater than 0 and less than 1, for example "0.05"',
        ),
    )

    fraction: Decimal | None = Field(
        default=None, description='Share of the training split to hold out, for example "0.05".'
    )
    split: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description='Split to use, for example "validation" or "test[:500]".',
    )


class Dataset(ApiModel):
    """The training data."""

    cel: ClassVar = (
        NoRevisionOfClaim,
        Cel(
            "!has(self.format.text) || !has(self.loss) || self.loss == 'AllTokens'",
            "format.text has no turns: remove loss, or set it to AllTokens",
        ),
        Cel(
            "!has(self.format.promptCompletion) || !has(self.loss) || self.loss != 'LastTurn'",
            "format.promptCompletion has no turns: set loss to Completions or AllTokens",
        ),
    )

    source: Source = Field(
        description="Where the data is: hf://OWNER/NAME, or pvc://CLAIM/PATH for a file or folder "
        "(parquet, json, jsonl, csv) on a volume claim of this namespace."
    )
    revision: Revision | None = Field(
        default=None, description="Branch, tag or commit of an hf:// source. Default: main."
    )
    token_secret_ref: SecretKeyRef | None = Field(
        default=None,
        description="Secret with a Hub token that may read the data set; needed for private ones.",
    )
    subset: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="Configuration of the data set, if it has several.",
    )
    split: str = Field(
        default="train",
        min_length=1,
        max_length=128,
        description='Split to train on; may be sliced as in "train[:4096]".',
    )
    format: DataFormat = Field(description="How a row becomes an example.")
    loss: LossOn | None = Field(
        default=None,
        description="Tokens that are trained: Completions (every assistant turn), LastTurn, or "
        "AllTokens. Default: Completions; AllTokens for format.text.",
    )
    validation: Validation | None = Field(
        default=None,
        description="Held-out data whose loss is measured before and after training. "
        "Default: none.",
    )


class Full(ApiModel):
    """Every weight is trained."""


class Lora(ApiModel):
    """Low-rank adapters beside frozen weights (Hu et al., 2021)."""

    rank: int = Field(default=16, ge=1, le=1024, description="Rank of the adapters.")
    alpha: int | None = Field(
        default=None,
        ge=1,
        le=65536,
        description="Scaling numerator: the update is weighted alpha / rank. Default: 2 × rank.",
    )
    dropout: Annotated[
        Decimal,
        rules(
            Cel("double(self) < 1.0", 'lora.dropout must be less than 1, for example "0.05"'),
        ),
    ] = Field(default="0", description="Dropout in front of the adapters, in [0, 1).")
    target_modules: list[Annotated[str, Field(min_length=1, max_length=128)]] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Names of the modules that get adapters, as PEFT matches them. "
        "Default: all linear layers but the head.",
    )


class Method(ApiModel):
    """What is trained: exactly one member."""

    cel: ClassVar = (
        Cel(
            "has(self.lora) != has(self.full)",
            "exactly one of lora and full must be set: lora trains adapters, full every weight",
        ),
    )

    lora: Lora | None = Field(default=None, description="Train LoRA adapters.")
    full: Full | None = Field(default=None, description="Train every weight.")


class SchedulerType(StrEnum):
    """Shape of the learning rate after warm-up."""

    COSINE = "Cosine"
    LINEAR = "Linear"
    CONSTANT = "Constant"


class Scheduler(ApiModel):
    """The learning rate over the run."""

    type: SchedulerType = Field(
        default=SchedulerType.COSINE, description="Cosine or Linear (both fall to 0), or Constant."
    )
    warmup_ratio: Annotated[
        Decimal,
        rules(Cel("double(self) < 1.0", "scheduler.warmupRatio must be less than 1")),
    ] = Field(default="0.03", description="Share of the steps over which the rate rises from 0.")


class Checkpoint(ApiModel):
    """When the state of training is saved."""

    every_steps: int = Field(
        default=100, ge=1, le=1_000_000, description="Optimizer steps between checkpoints."
    )
    keep: int = Field(default=2, ge=1, le=100, description="Checkpoints kept, newest first.")


class Precision(StrEnum):
    """Number format of the forward and backward pass."""

    AUTO = "Auto"
    BFLOAT16 = "Bfloat16"
    FLOAT32 = "Float32"


class Training(ApiModel):
    """How long and with which settings."""

    cel: ClassVar = (
        Cel(
            "!(has(self.epochs) && has(self.maxSteps))",
            "epochs and maxSteps cannot both be set: remove one",
        ),
    )

    epochs: int | None = Field(
        default=None, ge=1, le=1000, description="Passes over the data. Default: 1."
    )
    max_steps: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="Optimizer steps, instead of epochs; the data is repeated as needed.",
    )
    sequences_per_step: int = Field(
        default=8,
        ge=1,
        le=65536,
        description="Sequences per optimizer step, over all processes: the global batch size.",
    )
    sequence_length: int = Field(
        default=1024, ge=16, le=1_048_576, description="Most tokens in a sequence."
    )
    packing: bool = Field(
        default=True,
        description="Put several short examples into one sequence; attention stays inside each.",
    )
    learning_rate: (
        Annotated[
            Decimal,
            rules(
                Cel(
                    "double(self) > 0.0 && double(self) < 1.0",
                    'learningRate must be greater than 0 and less than 1, for example "2e-4"',
                )
            ),
        ]
        | None
    ) = Field(
        default=None, description='Peak learning rate. Default: "2e-4" for lora, "2e-5" for full.'
    )
    scheduler: Scheduler = Field(default=Scheduler(), description="The learning rate over the run.")
    weight_decay: Annotated[
        Decimal, rules(Cel("double(self) < 1.0", "weightDecay must be less than 1"))
    ] = Field(default="0", description="AdamW's weight decay.")
    max_grad_norm: Decimal = Field(
        default="1", description="Gradients are clipped to this norm; 0 turns clipping off."
    )
    precision: Precision = Field(
        default=Precision.AUTO,
        description="Auto takes Bfloat16 where the hardware has it, else Float32.",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute activations in the backward pass to save memory."
    )
    seed: int = Field(default=0, ge=0, le=2_147_483_647, description="Seed of order and dropout.")
    log_every_steps: int = Field(
        default=1, ge=1, le=100_000, description="Steps between logged metrics."
    )
    evaluate_every_steps: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Steps between measurements of the validation loss. Default: before the "
        "first step and after the last.",
    )
    checkpoint: Checkpoint = Field(
        default=Checkpoint(), description="When the state of training is saved."
    )


class Resources(ApiModel):
    """What the training pods ask for."""

    nodes: int = Field(default=1, ge=1, le=512, description="Training pods, one a node.")
    gpus_per_node: int = Field(
        default=0, ge=0, le=64, description="GPUs of each training pod; 0 trains on CPU."
    )
    gpu_resource_name: str = Field(
        default="nvidia.com/gpu",
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
        description="Name of the GPU resource.",
    )
    cpu: Quantity | None = Field(
        default=None, description='CPUs of each training pod (request and limit), for example "8".'
    )
    memory: Quantity | None = Field(
        default=None,
        description='Memory of each training pod (request and limit), for example "64Gi".',
    )
    shared_memory: Quantity | None = Field(
        default=None,
        description="Size of /dev/shm in each training pod; it counts as memory. Default: 1Gi.",
    )


class Merge(ApiModel):
    """Adapter and base model become one model."""

    precision: Precision = Field(
        default=Precision.AUTO,
        description="Number format of the merged model; Auto keeps the base model's.",
    )


class Artifact(StrEnum):
    """What is published."""

    ADAPTER = "Adapter"
    MERGED = "Merged"


class Upload(ApiModel):
    """Where the result is published."""

    repository: str = Field(
        max_length=193,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Model repository on the Hub, OWNER/NAME; created if it does not exist.",
    )
    branch: Revision = Field(default="main", description="Branch to commit to.")
    private: bool = Field(default=False, description="Create the repository as a private one.")
    artifacts: (
        Annotated[
            list[Artifact],
            rules(
                Cel(
                    "self.all(x, self.exists_one(y, x == y))",
                    "upload.artifacts may name each artifact once",
                )
            ),
        ]
        | None
    ) = Field(
        default=None,
        min_length=1,
        max_length=2,
        description="What to publish: Merged (the whole model, at the root) and Adapter (in the "
        "folder adapter, or at the root when alone). Default: both for lora, Merged for full.",
    )
    token_secret_ref: SecretKeyRef = Field(
        description="Secret with a Hub token that may write to the repository."
    )


class AccessMode(StrEnum):
    """Access mode of the workspace's claim."""

    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_MANY = "ReadWriteMany"


class Reclaim(StrEnum):
    """What becomes of the workspace's claim when the FineTuneJob is deleted."""

    DELETE = "Delete"
    RETAIN = "Retain"


class Storage(ApiModel):
    """The workspace: the volume that all stages share."""

    cel: ClassVar = (
        Cel(
            "!has(self.claimName) || !(has(self.size) || has(self.storageClassName) || "
            "has(self.accessMode))",
            "claimName uses a claim as it is: remove size, storageClassName and accessMode, or "
            "remove claimName",
        ),
    )

    size: Quantity | None = Field(
        default=None, description="Size of the claim that is made. Default: 50Gi."
    )
    storage_class_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        pattern=DNS_SUBDOMAIN,
        description="Storage class of the claim. Default: the cluster's default class.",
    )
    access_mode: AccessMode | None = Field(
        default=None,
        description="Access mode of the claim. Default: ReadWriteOnce for one node, "
        "ReadWriteMany for more.",
    )
    claim_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        pattern=DNS_SUBDOMAIN,
        description="An existing claim to use instead; it must be empty or from the same run.",
    )
    reclaim: Reclaim = Field(
        default=Reclaim.DELETE,
        description="Delete removes the claim with the FineTuneJob, Retain keeps it.",
    )


class Toleration(ApiModel):
    """As in a pod."""

    key: str | None = Field(default=None, max_length=253, description="Taint key.")
    operator: str | None = Field(
        default=None, max_length=16, description="Exists or Equal.", pattern="^(Exists|Equal)$"
    )
    value: str | None = Field(default=None, max_length=253, description="Taint value.")
    effect: str | None = Field(
        default=None,
        max_length=32,
        pattern="^(NoSchedule|PreferNoSchedule|NoExecute)$",
        description="Taint effect.",
    )
    toleration_seconds: int | None = Field(
        default=None, ge=0, le=2**53, description="How long a NoExecute taint is tolerated."
    )


class Scheduling(ApiModel):
    """Where the pods may run; every stage gets it, because they share a volume."""

    node_selector: dict[str, Annotated[str, Field(max_length=253)]] | None = Field(
        default=None, max_length=32, description="Labels that a node must have."
    )
    tolerations: list[Toleration] | None = Field(
        default=None, max_length=32, description="Taints that are tolerated."
    )
    affinity: dict[str, Any] | None = Field(
        default=None, description="A pod's affinity, as in v1 PodSpec."
    )
    priority_class_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        pattern=DNS_SUBDOMAIN,
        description="Priority class of the pods.",
    )
    runtime_class_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        pattern=DNS_SUBDOMAIN,
        description="Runtime class of the training pods.",
    )
    scheduler_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        pattern=DNS_SUBDOMAIN,
        description="Scheduler of the pods.",
    )


class PullPolicy(StrEnum):
    """When a node pulls the image."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class LocalRef(ApiModel):
    """An object in the same namespace."""

    name: str = Field(
        min_length=1, max_length=253, pattern=DNS_SUBDOMAIN, description="Name of the object."
    )


class Trainer(ApiModel):
    """The image that runs the stages."""

    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description="Trainer image; any that keeps the stage contract. Default: the operator's.",
    )
    image_pull_policy: PullPolicy | None = Field(
        default=None, description="When nodes pull the image. Default: as Kubernetes decides."
    )
    image_pull_secrets: list[LocalRef] | None = Field(
        default=None, max_length=8, description="Secrets to pull the image with."
    )


class Spec(ApiModel):
    """What to train, on what, how, and where the result goes."""

    cel: ClassVar = (
        Cel(
            "!has(self.upload) || !has(self.upload.artifacts) || has(self.method.lora) || "
            "!self.upload.artifacts.exists(x, x == 'Adapter')",
            "upload.artifacts has Adapter, but method.full makes no adapter: remove Adapter, or "
            "use method.lora",
        ),
        Cel(
            "!has(self.merge) || has(self.method.lora)",
            "merge is for adapters, but method.full makes a whole model: remove merge, or use "
            "method.lora",
        ),
        Cel(
            "!has(self.storage) || !has(self.storage.accessMode) || "
            "self.storage.accessMode == 'ReadWriteMany' || !has(self.resources) || "
            "self.resources.nodes <= 1",
            "resources.nodes is greater than 1, so storage.accessMode must be ReadWriteMany: set "
            "it, or set storage.claimName to a claim that has it",
        ),
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
        "finished one start over. Fields that are fixed after start may change together with it; "
        "then the run starts over.",
    )
    model: Model = Field(description="The base model.")
    dataset: Dataset = Field(description="The training data.")
    method: Method = Field(description="What is trained: lora or full.")
    training: Training = Field(default=Training(), description="How long and with which settings.")
    resources: Resources = Field(default=Resources(), description="What the training pods ask for.")
    merge: Merge | None = Field(
        default=None,
        description="Merge the adapter into the base model. Runs anyway when the upload has "
        "Merged.",
    )
    upload: Upload | None = Field(
        default=None, description="Publish the result on the Hugging Face Hub."
    )
    storage: Storage = Field(default=Storage(), description="The workspace that all stages share.")
    scheduling: Scheduling = Field(default=Scheduling(), description="Where the pods may run.")
    trainer: Trainer = Field(default=Trainer(), description="The image that runs the stages.")


# What defines a run: fixed once it has started (the rule stands at the root, where status is seen).
RUN_DEFINING = (
    "model",
    "dataset",
    "method",
    "training",
    "resources",
    "merge",
    "upload",
    "storage",
    "trainer",
)

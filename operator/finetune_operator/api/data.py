"""What is trained on what: `spec.model`, `spec.dataset` and `spec.datasets`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from finetune_operator.api.schema import ApiModel, Cel, Choice
from finetune_operator.api.values import (
    Column,
    DataSource,
    Decimal,
    Revision,
    SecretKeyRef,
    Source,
)

_HUB_ONLY = (
    Cel(
        "!has(self.revision) || !self.source.matches('^(pvc|configmap)://')",
        "revision belongs to an hf:// source: remove revision, or use hf://OWNER/NAME",
        forbidden=True,
    ),
    Cel(
        "!has(self.tokenSecretRef) || !self.source.matches('^(pvc|configmap)://')",
        "tokenSecretRef belongs to an hf:// source: remove it, or use hf://OWNER/NAME",
        forbidden=True,
    ),
)


class Model(ApiModel):
    """The base model."""

    cel: ClassVar[tuple[Cel, ...]] = _HUB_ONLY

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


class ShareGpt(ApiModel):
    """A list of {from, value} a row, from human, gpt or system."""

    conversations: Column = Field(default="conversations", description="Column with the list.")


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


class PreferenceColumns(ApiModel):
    """A preferred and a rejected answer, or one that was judged by itself, in any of TRL's forms:
    texts, to which no chat template is applied, or lists of {role, content}.
    """

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!has(self.completion) || !(has(self.chosen) || has(self.rejected))",
            "completion is a row's only answer: remove completion, or chosen and rejected",
        ),
        Cel(
            "!has(self.completion) || has(self.prompt)",
            "completion needs the column that it follows: set prompt",
        ),
        Cel(
            "!has(self.label) || has(self.completion)",
            "label judges completion: set completion, or remove label",
            field_path=".label",
            forbidden=True,
        ),
    )

    prompt: Column | None = Field(
        default=None,
        description="Column with what an answer follows. Default: none; the answers' common "
        "beginning is the prompt.",
    )
    chosen: Column | None = Field(
        default=None, description="Column with the preferred answer. Default: chosen."
    )
    rejected: Column | None = Field(
        default=None, description="Column with the rejected answer. Default: rejected."
    )
    completion: Column | None = Field(
        default=None,
        description="Column with a row's only answer, for training.preference.loss KTO.",
    )
    label: Column | None = Field(
        default=None,
        description="Column that says whether completion is desirable: true or false. Default: "
        "label.",
    )


class LabelledText(ApiModel):
    """A text and its class."""

    text: Column = Field(default="text", description="Column with the text.")
    label: Column = Field(
        default="label", description="Column with the class, as a text, a number or a class label."
    )


class TaggedTokens(ApiModel):
    """Words and a tag for each, such as B-PER, I-PER and O."""

    tokens: Column = Field(default="tokens", description="Column with the list of words.")
    tags: Column = Field(default="tags", description="Column with the list of their tags.")


class DataFormat(Choice):
    """How a row becomes an example: exactly one member."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "[has(self.questionAnswer), has(self.messages), has(self.sharegpt), "
            "has(self.promptCompletion), has(self.alpaca), has(self.template), has(self.text), "
            "has(self.preference), has(self.classification), has(self.tokenClassification)]"
            ".filter(x, x).size() == 1",
            "exactly one of questionAnswer, messages, sharegpt, promptCompletion, alpaca, "
            "template, text, preference, classification, tokenClassification must be set: keep "
            "the one that matches the data",
        ),
    )

    question_answer: QuestionAnswer | None = Field(
        default=None, description="Columns with a question and an answer."
    )
    messages: Messages | None = Field(
        default=None, description="A column with a list of {role, content} messages."
    )
    sharegpt: ShareGpt | None = Field(
        default=None, description="A column with a list of {from, value} turns."
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
    preference: PreferenceColumns | None = Field(
        default=None,
        description="Columns with a preferred and a rejected answer, or with one and a label.",
    )
    classification: LabelledText | None = Field(
        default=None, description="Columns with a text and its class."
    )
    token_classification: TaggedTokens | None = Field(
        default=None, description="Columns with words and a tag for each."
    )


class LossOn(StrEnum):
    """Which tokens are trained."""

    COMPLETIONS = "Completions"
    ALL_TOKENS = "AllTokens"
    LAST_TURN = "LastTurn"


class Validation(ApiModel):
    """Held-out data: exactly one member."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "has(self.fraction) != has(self.split)",
            "exactly one of fraction and split must be set: fraction holds out rows of the "
            "training split, split names one of its own",
        ),
        Cel(
            "!has(self.stratified) || !self.stratified || has(self.fraction)",
            "stratified is for a fraction: remove stratified, or set fraction",
            field_path=".stratified",
            forbidden=True,
        ),
    )

    fraction: (
        Annotated[
            Decimal,
            Cel(
                "double(self) > 0.0 && double(self) < 1.0",
                'fraction must be greater than 0 and less than 1, for example "0.05"',
            ),
        ]
        | None
    ) = Field(
        default=None, description='Share of the training split to hold out, for example "0.05".'
    )
    split: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description='Split to use, for example "validation" or "test[:500]".',
    )
    stratified: bool | None = Field(
        default=None,
        description="Hold out the same fraction of every class of format.classification. "
        "Default: false.",
    )


class Dataset(ApiModel):
    """The training data."""

    cel: ClassVar[tuple[Cel, ...]] = (
        *_HUB_ONLY,
        Cel(
            "!has(self.format.text) || !has(self.loss) || self.loss == 'AllTokens'",
            "format.text has no turns: remove loss, or set it to AllTokens",
        ),
        Cel(
            "!has(self.format.promptCompletion) || !has(self.loss) || self.loss != 'LastTurn'",
            "format.promptCompletion has no turns: set loss to Completions or AllTokens",
        ),
        Cel(
            "!has(self.format.preference) || !has(self.loss) || self.loss == 'Completions'",
            "format.preference trains the answers alone: remove loss, or set it to Completions",
        ),
        Cel(
            "!has(self.loss) || !(has(self.format.classification) || "
            "has(self.format.tokenClassification))",
            "loss chooses among the tokens of a text, but this format trains labels: remove loss",
            field_path=".loss",
            forbidden=True,
        ),
        Cel(
            "!has(self.validation) || !has(self.validation.stratified) || "
            "!self.validation.stratified || has(self.format.classification)",
            "validation.stratified needs classes: use format.classification, or remove stratified",
            field_path=".validation",
            forbidden=True,
        ),
    )

    source: DataSource = Field(
        description="Where the data is: hf://OWNER/NAME, pvc://CLAIM/PATH for a file or folder on "
        "a volume claim of this namespace, or configmap://NAME/KEY. Files may be parquet, json, "
        "jsonl or csv, and packed as .gz or .zst."
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


class WeightedDataset(Dataset):
    """One of several data sets."""

    weight: (
        Annotated[
            Decimal,
            Cel("double(self) > 0.0", 'weight must be greater than 0, for example "2" or "0.5"'),
        ]
        | None
    ) = Field(
        default=None,
        description="Share of this data set's rows in an epoch, relative to the other weights. "
        "Default: every row, where no data set has a weight.",
    )

"""The plan's model, task and data."""

from __future__ import annotations

from enum import StrEnum

from finetune_trainer.run.contract import Contract, Decimal


class ModelSource(Contract):
    """Where the base model comes from: `hf://OWNER/NAME` or `pvc://CLAIM/PATH`."""

    source: str
    revision: str = "main"
    chat_template: str | None = None


class QuestionAnswer(Contract):
    question: str = "question"
    answer: str = "answer"
    system: str | None = None


class Messages(Contract):
    messages: str = "messages"


class ShareGpt(Contract):
    conversations: str = "conversations"


class PromptCompletion(Contract):
    prompt: str = "prompt"
    completion: str = "completion"


class Alpaca(Contract):
    instruction: str = "instruction"
    input: str = "input"
    output: str = "output"


class Template(Contract):
    """Columns in braces, as in `"Question: {question}"`."""

    prompt: str
    completion: str


class Text(Contract):
    text: str = "text"


class PreferenceColumns(Contract):
    """A pair of answers, which begin with their prompt if that has no column; or, with
    `completion`, one answer and whether it is desirable.
    """

    prompt: str | None = None
    chosen: str = "chosen"
    rejected: str = "rejected"
    completion: str | None = None
    label: str = "label"


class LabelledText(Contract):
    text: str = "text"
    label: str = "label"


class TaggedTokens(Contract):
    tokens: str = "tokens"
    tags: str = "tags"


class Format(Contract):
    """Exactly one member is set."""

    question_answer: QuestionAnswer | None = None
    messages: Messages | None = None
    sharegpt: ShareGpt | None = None
    prompt_completion: PromptCompletion | None = None
    alpaca: Alpaca | None = None
    template: Template | None = None
    text: Text | None = None
    preference: PreferenceColumns | None = None
    classification: LabelledText | None = None
    token_classification: TaggedTokens | None = None


class Task(StrEnum):
    """What the model learns to do; each needs a format of its own (docs/stage-contract.md)."""

    GENERATION = "Generation"
    PREFERENCE = "Preference"
    CLASSIFICATION = "Classification"
    TOKEN_CLASSIFICATION = "TokenClassification"

    @property
    def has_labels(self) -> bool:
        """Whether the model chooses among labels, with a head that begins at random."""
        return self in (Task.CLASSIFICATION, Task.TOKEN_CLASSIFICATION)


class LossOn(StrEnum):
    """Which tokens are trained."""

    COMPLETIONS = "Completions"
    ALL_TOKENS = "AllTokens"
    LAST_TURN = "LastTurn"


class Validation(Contract):
    """A fraction of the training split, or a split of its own; exactly one is set."""

    fraction: Decimal | None = None
    split: str | None = None
    stratified: bool = False


class DatasetSource(Contract):
    """Rows from `hf://OWNER/NAME`, `pvc://CLAIM/PATH` or `configmap://NAME/KEY`; `weight` is its
    share of the training rows, beside other data sets.
    """

    source: str
    revision: str = "main"
    subset: str | None = None
    split: str = "train"
    format: Format
    loss: LossOn = LossOn.COMPLETIONS
    validation: Validation | None = None
    weight: Decimal | None = None

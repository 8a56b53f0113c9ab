"""All that a report shows, as data: what `read` gathers and `page` lays out."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune_trainer.run import Run
from finetune_trainer.stage_log import Attempt


@dataclass(slots=True)
class Curve:
    """Values by optimizer step, in the order in which they were logged."""

    steps: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))

    def __len__(self) -> int:
        return len(self.steps)

    def add(self, step: float, value: float) -> None:
        self.steps.append(step)
        self.values.append(value)


@dataclass(frozen=True, slots=True)
class Resumption:
    """Attempt `attempt` at train went on after `step` steps."""

    attempt: int
    step: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an example's text that is supervised or not."""

    text: str
    supervised: bool


@dataclass(frozen=True, slots=True)
class Passage:
    """One document, or an answer of a pair, of a previewed example; `more` tokens are not shown."""

    title: str
    pieces: Sequence[Piece]
    more: int


@dataclass(frozen=True, slots=True)
class Previewed:
    """An example of the training data."""

    number: int
    tokens: int
    supervised: int
    passages: Sequence[Passage]


@dataclass(frozen=True, slots=True)
class Sample:
    """What base and tuned model answer to a prompt of the validation data; `base` is None where the
    base was not asked, `step` is the tuned model's.
    """

    prompt: str
    base: str | None
    tuned: str
    reference: str
    step: int


@dataclass(frozen=True, slots=True)
class Failure:
    """How the last stage that did not succeed ended."""

    stage: str
    outcome: str
    message: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """`counts` of values from each of `edges` to the next; there is one edge more than counts."""

    edges: Sequence[float]
    counts: Sequence[float]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a run; of what is not, mappings and sequences are empty.

    `prepared` is prepare's report, the others are stages' results. `curves` are those of the
    history by the names of the progress protocol. With `public` the report lies beside the model:
    what is taken out of the data is left out, and so is what is not known before the upload.
    """

    run: Run
    public: bool
    prepared: Mapping[str, Any]
    train: Mapping[str, Any]
    merge: Mapping[str, Any]
    upload: Mapping[str, Any]
    failure: Failure | None
    attempts: Sequence[Attempt]
    curves: Mapping[str, Curve]
    resumptions: Sequence[Resumption]
    lengths: Histogram | None
    fill: Histogram | None
    examples: Sequence[Previewed]
    samples: Sequence[Sample]
    versions: Mapping[str, str]
    chats: bool = True

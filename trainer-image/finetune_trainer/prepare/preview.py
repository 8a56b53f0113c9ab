"""A few examples as text, what is supervised marked: by colour in a log, by brackets in a file, by
a flag of its own in the JSON that the run's report is made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from finetune_trainer.data.answers import answers_of
from finetune_trainer.data.examples import Example, Examples
from finetune_trainer.run import Task

EXAMPLES = 3
# A log is read in a terminal: enough to see both ends of a turn, not a whole book.
SHOWN_TOKENS = 400
SHOWN_LABELS = 100

BRACKETS = ("⟦", "⟧")
COLOURS = ("\x1b[32m", "\x1b[0m")

_CONTROLS = {*range(0x20), *range(0x7F, 0xA0)} - {ord("\n"), ord("\t")}
_DIRECTIONS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_OBEYED = frozenset(map(chr, _CONTROLS | _DIRECTIONS))


class Piece(NamedTuple):
    """Text of one kind."""

    text: str
    supervised: bool


@dataclass(frozen=True, slots=True)
class Passage:
    """What is shown of one document; `more` tokens are not."""

    title: str
    pieces: list[Piece]
    more: int


@dataclass(frozen=True, slots=True)
class Shown:
    """One example, the `number`th of the data, from 1; of a pair of answers two passages."""

    number: int
    tokens: int
    supervised: int
    passages: list[Passage]


def choose(
    examples: Examples,
    tokenizer: PreTrainedTokenizerBase,
    task: Task = Task.GENERATION,
    labels: Sequence[str] = (),
) -> list[Shown]:
    """Examples from the beginning on, at even distances, so that of several data sets more than the
    first is seen.
    """
    count = min(EXAMPLES, len(examples))
    found = []
    for index in (number * len(examples) // count for number in range(count)):
        example = examples[index]
        passages = [
            Passage(title, _pieces(part, tokenizer), max(0, len(part.tokens) - SHOWN_TOKENS))
            for title, part in _parts(example, task, labels)
        ]
        supervised = int(example.supervised.sum())
        found.append(Shown(index + 1, len(example.tokens), supervised, passages))
    return found


def preview(
    examples: Examples,
    tokenizer: PreTrainedTokenizerBase,
    marks: tuple[str, str] = BRACKETS,
    task: Task = Task.GENERATION,
    labels: Sequence[str] = (),
) -> str:
    """Each example under a heading with its counts, supervised text between `marks`."""
    parts = [
        f"── example {shown.number}: {shown.tokens} tokens, {shown.supervised} supervised ──\n"
        + "\n".join(_line(passage, marks) for passage in shown.passages)
        for shown in choose(examples, tokenizer, task, labels)
    ]
    return "\n\n".join(parts) + "\n"


def as_json(chosen: Sequence[Shown]) -> list[dict[str, Any]]:
    """`prepare/preview.json`, as the contract has it."""
    return [
        {
            "number": shown.number,
            "tokens": shown.tokens,
            "supervisedTokens": shown.supervised,
            "passages": [
                {
                    "title": passage.title.strip().removesuffix(":"),
                    "pieces": [
                        {"text": piece.text, "supervised": piece.supervised}
                        for piece in passage.pieces
                    ],
                    "moreTokens": passage.more,
                }
                for passage in shown.passages
            ],
        }
        for shown in chosen
    ]


def _line(passage: Passage, marks: tuple[str, str]) -> str:
    more = f" … {passage.more} more tokens" if passage.more else ""
    text = "".join(
        f"{marks[0]}{piece.text}{marks[1]}" if piece.supervised else piece.text
        for piece in passage.pieces
    )
    return passage.title + text + more


def _parts(example: Example, task: Task, labels: Sequence[str]) -> list[tuple[str, Example]]:
    if task.has_labels:
        names = [labels[label] for label in example.labels[:SHOWN_LABELS]]
        more = " …" if len(example.labels) > SHOWN_LABELS else ""
        return [(_harmless(" ".join(names)) + more + "\n", example)]
    if task is not Task.PREFERENCE:
        return [("", example)]
    answers = answers_of(example)
    titles = ("rejected: ", "chosen: ") if len(answers) > 1 else ("undesirable: ", "desirable: ")
    return [(titles[int(answer.labels[0])], answer) for answer in answers]


def _pieces(example: Example, tokenizer: PreTrainedTokenizerBase) -> list[Piece]:
    pairs = zip(example.tokens.tolist(), example.supervised.tolist(), strict=True)
    pieces = []
    for is_supervised, run in groupby(list(pairs)[:SHOWN_TOKENS], key=lambda pair: pair[1]):
        text = tokenizer.decode([token for token, _ in run], clean_up_tokenization_spaces=False)
        pieces.append(Piece(_harmless(text), is_supervised))
    return pieces


def _harmless(text: str) -> str:
    """Data may hold what a terminal obeys: escapes, a cursor's moves, a change of direction."""
    return "".join(char if char not in _OBEYED else "\N{REPLACEMENT CHARACTER}" for char in text)

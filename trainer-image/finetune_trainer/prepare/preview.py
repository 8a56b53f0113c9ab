"""A few examples as text, what is supervised marked: by colour in a log, by brackets in a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

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


def preview(
    examples: Examples,
    tokenizer: PreTrainedTokenizerBase,
    marks: tuple[str, str] = BRACKETS,
    task: Task = Task.GENERATION,
    labels: Sequence[str] = (),
) -> str:
    """Examples from the beginning on, at even distances, so that of several data sets more than the
    first is seen; each under a heading with its counts, supervised text between `marks`.
    """
    parts = []
    shown = min(EXAMPLES, len(examples))
    for index in (number * len(examples) // shown for number in range(shown)):
        example = examples[index]
        supervised = int(example.supervised.sum())
        parts.append(
            f"── example {index + 1}: {len(example.tokens)} tokens, {supervised} supervised ──\n"
            + "\n".join(
                title + "".join(_marked(part, tokenizer, marks))
                for title, part in _parts(example, task, labels)
            )
        )
    return "\n\n".join(parts) + "\n"


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


def _marked(
    example: Example, tokenizer: PreTrainedTokenizerBase, marks: tuple[str, str]
) -> Iterator[str]:
    pairs = zip(example.tokens.tolist(), example.supervised.tolist(), strict=True)
    shown = list(pairs)[:SHOWN_TOKENS]
    for is_supervised, run in groupby(shown, key=lambda pair: pair[1]):
        text = tokenizer.decode([token for token, _ in run], clean_up_tokenization_spaces=False)
        text = _harmless(text)
        yield f"{marks[0]}{text}{marks[1]}" if is_supervised else text
    if len(example.tokens) > SHOWN_TOKENS:
        yield f" … {len(example.tokens) - SHOWN_TOKENS} more tokens"


def _harmless(text: str) -> str:
    """Data may hold what a terminal obeys: escapes, a cursor's moves, a change of direction."""
    return "".join(char if char not in _OBEYED else "\N{REPLACEMENT CHARACTER}" for char in text)

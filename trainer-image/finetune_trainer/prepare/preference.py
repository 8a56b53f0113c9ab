"""Preference pairs: rows with a preferred and a rejected answer, read and encoded.

The forms are TRL's: texts, or lists of messages for the chat template; with the prompt in a column
of its own, or at the beginning of both answers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from finetune_trainer.data.examples import Example
from finetune_trainer.prepare.encode import Encoder, TooLong
from finetune_trainer.prepare.format import (
    Continuation,
    Conversation,
    Document,
    Dropped,
    Message,
    Pair,
    Passage,
    Row,
    RowReader,
    read_conversation,
    require_column,
    text_of,
)
from finetune_trainer.run import PreferencePair

EQUAL = "both answers are the same"


def preference_reader(
    columns: PreferencePair, available: Sequence[str], texts: Collection[str], where: str
) -> RowReader:
    """The reader for `columns`, which stand at `where`; of the `available` ones `texts` hold text.

    Raises:
        UserError: a column is not there.
    """
    names = {"prompt": columns.prompt, "chosen": columns.chosen, "rejected": columns.rejected}
    named = {member: column for member, column in names.items() if column is not None}
    for member, column in named.items():
        require_column(f"{where}.preference.{member}", column, available)
    is_chat = not set(named.values()) <= set(texts)

    def read(row: Row) -> Document:
        return _chats(row, columns) if is_chat else _texts(row, columns)

    return RowReader(tuple(named.values()), is_chat, read)


def _texts(row: Row, columns: PreferencePair) -> Pair:
    chosen, rejected = text_of(row, columns.chosen), text_of(row, columns.rejected)
    if columns.prompt is None:
        return Pair(Passage(chosen), Passage(rejected))
    prompt = text_of(row, columns.prompt)
    return Pair(Continuation(prompt, chosen), Continuation(prompt, rejected))


def _chats(row: Row, columns: PreferencePair) -> Pair:
    chosen, rejected = (
        read_conversation(_whole(row, columns, column)).messages
        for column in (columns.chosen, columns.rejected)
    )
    given = _shared(chosen, rejected)
    if given == len(chosen) == len(rejected):
        raise Dropped(EQUAL)
    if given in (len(chosen), len(rejected)):
        raise Dropped("one answer is the beginning of the other")
    return Pair(Conversation(chosen, given), Conversation(rejected, given))


def _whole(row: Row, columns: PreferencePair, column: str) -> Any:
    """Prompt and answer as one list of messages; an answer that begins with the prompt is one."""
    answer = row[column]
    if isinstance(answer, str):
        answer = [{"role": "assistant", "content": text_of(row, column)}]
    if columns.prompt is None or not _begins_with_answer(answer):
        return answer
    prompt = row[columns.prompt]
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": text_of(row, columns.prompt)}]
    if not isinstance(prompt, list):
        raise Dropped("no messages")
    return [*prompt, *answer]


def _begins_with_answer(messages: Any) -> bool:
    if not isinstance(messages, list) or not messages:
        raise Dropped("no messages")
    return isinstance(messages[0], dict) and messages[0].get("role") == "assistant"


def _shared(one: Sequence[Message], other: Sequence[Message]) -> int:
    length = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        length += 1
    return length


class PairEncoder:
    """Turns pairs into one example each: both documents behind one another, and as its label how
    many tokens the first has.

    Pairs of more than `capacity` tokens are dropped. `encoder` must drop nothing for its length.
    """

    def __init__(self, encoder: Encoder, *, capacity: int) -> None:
        self._encoder = encoder
        self._capacity = capacity

    def encode(self, documents: Sequence[Document]) -> list[list[Example] | Dropped]:
        """The example of each pair, or why it is dropped."""
        pairs = [document for document in documents if isinstance(document, Pair)]
        encoded = iter(
            self._encoder.encode([each for pair in pairs for each in (pair.chosen, pair.rejected)])
        )
        return [self._joined(pair, next(encoded), next(encoded)) for pair in pairs]

    def _joined(
        self, pair: Pair, chosen: list[Example] | Dropped, rejected: list[Example] | Dropped
    ) -> list[Example] | Dropped:
        if isinstance(chosen, Dropped):
            return chosen
        if isinstance(rejected, Dropped):
            return rejected
        if not chosen or not rejected:
            return Dropped("an answer without tokens")
        (one,), (other,) = chosen, rejected
        if np.array_equal(one.tokens, other.tokens):
            return Dropped(EQUAL)
        length = len(one.tokens) + len(other.tokens)
        if length > self._capacity:
            return TooLong(length, "both answers together are longer than")
        if isinstance(pair.chosen, Passage):
            one, other = _without_beginning(one, other)
        return [
            Example(
                tokens=np.concatenate([one.tokens, other.tokens]),
                supervised=np.concatenate([one.supervised, other.supervised]),
                labels=np.array([len(one.tokens)], dtype=np.int32),
            )
        ]


def _without_beginning(one: Example, other: Example) -> tuple[Example, Example]:
    """Both with nothing supervised of the tokens that they begin with together."""
    short = min(len(one.tokens), len(other.tokens))
    # They differ, and both end with the same token: so they part before the shorter one ends.
    parted = int(np.argmax(one.tokens[:short] != other.tokens[:short]))
    masks = [each.supervised & (np.arange(len(each.tokens)) >= parted) for each in (one, other)]
    return Example(one.tokens, masks[0]), Example(other.tokens, masks[1])

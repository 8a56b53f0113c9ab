"""Preferences: rows with a preferred and a rejected answer, or with one that was judged by itself,
read and encoded.

The forms are TRL's: texts, or lists of messages for the chat template; with the prompt in a column
of its own, or at the beginning of both answers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from finetune_trainer.data.answers import count_answers, example_of
from finetune_trainer.data.examples import Example, Examples
from finetune_trainer.outcome import UserError
from finetune_trainer.prepare.encode import Encoder, TooLong
from finetune_trainer.prepare.format import (
    Continuation,
    Conversation,
    Document,
    Dropped,
    Judged,
    Message,
    Pair,
    Passage,
    Row,
    RowReader,
    read_conversation,
    require_column,
    text_of,
)
from finetune_trainer.run import Preference as Settings
from finetune_trainer.run import PreferenceColumns, Run

EQUAL = "both answers are the same"
# A csv file has no truth values, only their names.
VERDICTS = {"true": True, "false": False, "1": True, "0": False}


def preference_reader(
    columns: PreferenceColumns, available: Sequence[str], texts: Collection[str], where: str
) -> RowReader:
    """The reader for `columns`, which stand at `where`; of the `available` ones `texts` hold text.

    Raises:
        UserError: a column is not there, or has to be named.
    """
    where = f"{where}.preference"
    if columns.completion is None:
        names = {"prompt": columns.prompt, "chosen": columns.chosen, "rejected": columns.rejected}
    elif columns.prompt is None:
        raise UserError(f"{where}.completion needs the column that it follows: set {where}.prompt.")
    else:
        names = {"prompt": columns.prompt, "completion": columns.completion}
    named = {member: column for member, column in names.items() if column is not None}
    for member, column in named.items():
        require_column(f"{where}.{member}", column, available)
    is_chat = not set(named.values()) <= set(texts)

    def read(row: Row) -> Document:
        return _chats(row, columns) if is_chat else _texts(row, columns)

    def read_judged(row: Row) -> Document:
        desirable = _verdict(row, columns.label)
        return Judged(_chat(row, columns) if is_chat else _text(row, columns), desirable)

    if columns.completion is None:
        return RowReader(tuple(named.values()), is_chat, read)
    require_column(f"{where}.label", columns.label, available)
    return RowReader((*named.values(), columns.label), is_chat, read_judged)


def _verdict(row: Row, column: str) -> bool:
    verdict = VERDICTS.get(str(row[column]).strip().lower())
    if verdict is None:
        raise Dropped(f'column "{column}" holds neither true nor false')
    return verdict


def _text(row: Row, columns: PreferenceColumns) -> Continuation:
    assert columns.prompt is not None
    assert columns.completion is not None
    return Continuation(text_of(row, columns.prompt), text_of(row, columns.completion))


def _chat(row: Row, columns: PreferenceColumns) -> Conversation:
    assert columns.completion is not None
    completion = row[columns.completion]
    whole = _whole(row, columns, columns.completion)
    messages = read_conversation(whole).messages
    if whole is completion:  # with its prompt, to which earlier answers belong
        return Conversation(messages, len(messages) - 1)
    turns = len(completion) if isinstance(completion, list) else 1
    return Conversation(messages, len(whole) - turns)


def _texts(row: Row, columns: PreferenceColumns) -> Pair:
    chosen, rejected = text_of(row, columns.chosen), text_of(row, columns.rejected)
    if columns.prompt is None:
        return Pair(Passage(chosen), Passage(rejected))
    prompt = text_of(row, columns.prompt)
    return Pair(Continuation(prompt, chosen), Continuation(prompt, rejected))


def _chats(row: Row, columns: PreferenceColumns) -> Pair:
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


def _whole(row: Row, columns: PreferenceColumns, column: str) -> Any:
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


class AnswerEncoder:
    """Turns pairs, and answers judged by themselves, into one example each: see `data.answers`.

    Those of more than `capacity` tokens are dropped. `encoder` must drop nothing for its length.
    """

    def __init__(self, encoder: Encoder, *, capacity: int) -> None:
        self._encoder = encoder
        self._capacity = capacity

    def encode(self, documents: Sequence[Document]) -> list[list[Example] | Dropped]:
        """The example of each document, or why it is dropped."""
        answers = [_answers(document) for document in documents]
        encoded = iter(self._encoder.encode([each for one in answers for each in one]))
        results: list[list[Example] | Dropped] = []
        for document, ours in zip(documents, answers, strict=True):
            try:
                results.append([self._example(document, [next(encoded) for _ in ours])])
            except Dropped as reason:
                results.append(reason)
        return results

    def _example(self, document: Document, encoded: list[list[Example] | Dropped]) -> Example:
        answers = []
        for each in encoded:
            if isinstance(each, Dropped):
                raise each
            if not each or not each[0].supervised.any():
                raise Dropped("an answer without tokens")
            answers.append(each[0])
        length = sum(len(answer.tokens) for answer in answers)
        if isinstance(document, Judged):
            if length > self._capacity:
                raise TooLong(length)
            (answer,) = answers
            return example_of(answer, None) if document.desirable else example_of(None, answer)
        one, other = answers
        if np.array_equal(one.tokens, other.tokens):
            raise Dropped(EQUAL)
        if length > self._capacity:
            raise TooLong(length, "both answers together are longer than")
        assert isinstance(document, Pair)
        if isinstance(document.chosen, Passage):
            one, other = _without_beginning(one, other)
        return example_of(one, other)


def _answers(document: Document) -> tuple[Document, ...]:
    if isinstance(document, Judged):
        return (document.answer,)
    assert isinstance(document, Pair), "task Preference has no other documents"
    return document.chosen, document.rejected


def _without_beginning(one: Example, other: Example) -> tuple[Example, Example]:
    """Both with nothing supervised of the tokens that they begin with together."""
    short = min(len(one.tokens), len(other.tokens))
    # They differ, and both end with the same token: so they part before the shorter one ends.
    parted = int(np.argmax(one.tokens[:short] != other.tokens[:short]))
    masks = [each.supervised & (np.arange(len(each.tokens)) >= parted) for each in (one, other)]
    return Example(one.tokens, masks[0]), Example(other.tokens, masks[1])


def require_pairs(run: Run) -> None:
    """Refuse answers that were judged one by one, where two are compared.

    Raises:
        UserError: the loss of the plan does not learn from a data set's form.
    """
    settings = run.training.preference or Settings()
    for field, spec in run.data.items():
        columns = spec.format.preference
        if columns is not None and columns.completion is not None and settings.loss != "KTO":
            raise UserError(
                f"spec.training.preference.loss {settings.loss} compares two answers, but "
                f"spec.{field}.format.preference.completion is one: set loss to KTO, or name the "
                "columns chosen and rejected."
            )


def require_both(run: Run, examples: Examples) -> None:
    """Refuse to learn by KTO from what is all desirable, or all undesirable.

    Raises:
        UserError: it is.
    """
    settings = run.training.preference
    if settings is None or settings.loss != "KTO":
        return
    desirable, undesirable = count_answers(examples)
    if not desirable or not undesirable:
        field = next(iter(run.data))
        raise UserError(
            f"Every training example is labelled {'desirable' if desirable else 'undesirable'}, "
            f"and there is nothing to tell apart: check spec.{field}.format.preference.label and "
            f"spec.{field}.split."
        )

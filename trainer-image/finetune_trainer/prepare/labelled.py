"""Texts with a label, and words with one each: rows read and encoded.

Texts are tokenized as a user of the finished model does: `tokenizer(text)`. Which labels there are
belongs to `labels.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from finetune_trainer.data.examples import Example
from finetune_trainer.outcome import UserError
from finetune_trainer.prepare.encode import TooLong
from finetune_trainer.prepare.format import (
    Document,
    Dropped,
    Labelled,
    Row,
    RowReader,
    require_column,
    text_of,
)
from finetune_trainer.prepare.labels import LabelColumn
from finetune_trainer.run import Format


def label_column(format: Format) -> str | None:
    """The column with the labels, of a format that has any."""
    if format.classification is not None:
        return format.classification.label
    if format.token_classification is not None:
        return format.token_classification.tags
    return None


def labelled_reader(
    format: Format, available: Sequence[str], labels: LabelColumn, where: str
) -> RowReader:
    """The reader for rows of `format`, which stands at `where`, with labels in one of the
    `available` columns.

    Raises:
        UserError: a column is not there.
    """
    if format.classification is not None:
        text = format.classification.text
        require_column(f"{where}.classification.text", text, available)

        def read(row: Row) -> Document:
            return Labelled(text_of(row, text), (labels.name(row[labels.column]),))

        return RowReader((text, labels.column), False, read)
    assert format.token_classification is not None, "a format without labels"
    tokens = format.token_classification.tokens
    require_column(f"{where}.tokenClassification.tokens", tokens, available)

    def read_words(row: Row) -> Document:
        words, tags = row[tokens], row[labels.column]
        if not isinstance(words, list) or not isinstance(tags, list) or not words:
            raise Dropped("no list of words and tags")
        if len(words) != len(tags):
            raise Dropped(f'columns "{tokens}" and "{labels.column}" differ in length')
        if not all(isinstance(word, str) and word.strip() for word in words):
            raise Dropped("an empty word")
        return Labelled(tuple(words), tuple(labels.name(tag) for tag in tags))

    return RowReader((tokens, labels.column), False, read_words)


class LabelledEncoder:
    """Turns labelled documents into one example each, of at most `capacity` tokens.

    Of a text the last token is marked, of words the first token of each: there the label stands.
    `names` are the labels by their number.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, names: Sequence[str], *, capacity: int
    ) -> None:
        if not tokenizer.is_fast:
            raise UserError(
                "The model's tokenizer has no tokenizer.json, which is needed to find the words "
                "among the tokens: set spec.model.source to a model that has one."
            )
        self._tokenizer = tokenizer
        self._numbers = {name: number for number, name in enumerate(names)}
        self._capacity = capacity

    def encode(self, documents: Sequence[Document]) -> list[list[Example] | Dropped]:
        """The example of each document, or why it is dropped."""
        labelled = [document for document in documents if isinstance(document, Labelled)]
        if not labelled:
            return []
        words = isinstance(labelled[0].text, tuple)
        encoding = self._tokenizer(
            [list(each.text) if words else each.text for each in labelled],
            is_split_into_words=words,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        results: list[list[Example] | Dropped] = []
        for index, document in enumerate(labelled):
            try:
                places = encoding.word_ids(index) if words else None
                results.append([self._example(document, encoding["input_ids"][index], places)])
            except Dropped as reason:
                results.append(reason)
        return results

    def _example(
        self, document: Labelled, tokens: list[int], places: list[int | None] | None
    ) -> Example:
        if len(tokens) > self._capacity:
            raise TooLong(len(tokens))
        if not tokens:
            raise Dropped("no tokens")
        marked = np.zeros(len(tokens), dtype=np.bool_)
        if places is None:
            marked[-1] = True
        else:
            previous = None
            for position, word in enumerate(places):
                marked[position] = word is not None and word != previous
                previous = word
            if int(marked.sum()) != len(document.labels):
                raise Dropped("a word that the tokenizer leaves out")
        return Example(
            tokens=np.asarray(tokens, dtype=np.int32),
            supervised=marked,
            labels=np.array([self._number(name) for name in document.labels], dtype=np.int32),
        )

    def _number(self, name: str) -> int:
        if name not in self._numbers:
            raise UserError(
                f'The held-out rows have label "{name}", which no training row has: set another '
                "spec.dataset.validation.split."
            )
        return self._numbers[name]

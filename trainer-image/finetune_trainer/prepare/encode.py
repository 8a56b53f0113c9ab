"""Documents as tokenized examples: rendering, tokenizing in batches, masking, length.

The tokenizer's own threads share a batch. Where documents come from and where examples go is not
known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from finetune_trainer.data.examples import Example
from finetune_trainer.outcome import UserError
from finetune_trainer.prepare.format import Continuation, Conversation, Document, Dropped, Passage
from finetune_trainer.prepare.mask import first_token_behind, supervise_turns, turn_starts
from finetune_trainer.prepare.template import ChatTemplate
from finetune_trainer.run import LossOn


class TooLong(Dropped):
    """The document has more tokens than a sequence; `length` is how many."""

    def __init__(self, length: int, what: str = "longer than") -> None:
        super().__init__(f"{what} spec.training.sequenceLength")
        self.length = length


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A document as text; `starts` are where supervised parts begin, in characters."""

    text: str
    starts: tuple[int, ...]


class Encoder:
    """Turns documents into examples of at most `capacity` tokens.

    A conversation or continuation that is longer is dropped: cut off, it would teach an answer
    without its end. A passage is split instead. The first token of an example is never supervised:
    nothing precedes it that it could be predicted from.

    Raises:
        UserError: the tokenizer cannot report where its tokens lie in the text, or plain text
            would have no end token.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: ChatTemplate | None,
        *,
        loss: LossOn,
        capacity: int,
    ) -> None:
        if not tokenizer.is_fast:
            raise UserError(
                "The model's tokenizer has no tokenizer.json, which is needed to find the answers "
                "among the tokens: set spec.model.source to a model that has one."
            )
        if template is None and tokenizer.eos_token_id is None:
            raise UserError(
                "The model's tokenizer has no end-of-text token, so the model would never learn to "
                "stop: set spec.model.source to a model that has one."
            )
        self._tokenizer = tokenizer
        self._template = template
        self._loss = loss
        self._capacity = capacity

    def encode(self, documents: Sequence[Document]) -> list[list[Example] | Dropped]:
        """The examples of each document, or why it is dropped."""
        results: list[list[Example] | Dropped] = [[] for _ in documents]
        rendered: dict[int, _Rendered] = {}
        for index, document in enumerate(documents):
            try:
                rendered[index] = self._render(document)
            except Dropped as reason:
                results[index] = reason
        if not rendered:
            return results
        encoding = self._tokenizer(
            [part.text for part in rendered.values()],
            # A chat template writes its own special tokens.
            add_special_tokens=self._template is None,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        for position, (index, part) in enumerate(rendered.items()):
            tokens = encoding["input_ids"][position]
            offsets = encoding["offset_mapping"][position]
            try:
                results[index] = self._examples(documents[index], part, tokens, offsets)
            except Dropped as reason:
                results[index] = reason
        return results

    def _render(self, document: Document) -> _Rendered:
        if isinstance(document, Conversation):
            assert self._template is not None, "conversations need a chat template"
            text = self._template.render(document.messages)
            if self._loss is LossOn.ALL_TOKENS:
                return _Rendered(text, ())
            last_only = self._loss is LossOn.LAST_TURN
            starts = turn_starts(
                self._template, document.messages, text, last_only=last_only, given=document.given
            )
            return _Rendered(text, tuple(starts))
        if isinstance(document, Continuation):
            return _Rendered(document.prompt + document.completion, (len(document.prompt),))
        assert isinstance(document, Passage), "pairs have an encoder of their own"
        return _Rendered(document.text, (0,))

    def _examples(
        self, document: Document, part: _Rendered, tokens: list[int], offsets: Any
    ) -> list[Example]:
        if isinstance(document, Conversation):
            assert self._template is not None, "conversations need a chat template"
            self._require_fit(len(tokens))
            if self._loss is LossOn.ALL_TOKENS:
                mask = np.ones(len(tokens), dtype=np.bool_)
            else:
                mask = supervise_turns(
                    tokens, offsets, part.text, part.starts, self._template.stops
                )
            return [_example(tokens, mask)]
        if tokens[-1:] != [self._tokenizer.eos_token_id]:
            tokens = [*tokens, self._tokenizer.eos_token_id]
        mask = np.ones(len(tokens), dtype=np.bool_)
        if isinstance(document, Continuation):
            self._require_fit(len(tokens))
            if self._loss is not LossOn.ALL_TOKENS:
                mask[: first_token_behind(offsets, part.text, part.starts[0])] = False
            return [_example(tokens, mask)]
        pieces = range(0, len(tokens), self._capacity)
        return [
            _example(tokens[start : start + self._capacity], mask[start : start + self._capacity])
            for start in pieces
            # One token alone has nothing to predict.
            if len(tokens) - start > 1
        ]

    def _require_fit(self, length: int) -> None:
        if length > self._capacity:
            raise TooLong(length)


def _example(tokens: Sequence[int], mask: Any) -> Example:
    flags = np.array(mask, dtype=np.bool_)
    flags[:1] = False
    return Example(tokens=np.asarray(tokens, dtype=np.int32), supervised=flags)

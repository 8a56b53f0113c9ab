"""How an example of task Preference holds its answers: whole documents behind one another, the
desirable one first, and as its only label how many of the tokens are that one's.

So a pair has a label between 0 and its length, an answer that was judged by itself one of the two.
"""

from __future__ import annotations

import numpy as np

from finetune_trainer.data.examples import Example, Examples


def example_of(desirable: Example | None, undesirable: Example | None) -> Example:
    """One example of one answer or two."""
    answers = [answer for answer in (desirable, undesirable) if answer is not None]
    return Example(
        tokens=np.concatenate([answer.tokens for answer in answers]),
        supervised=np.concatenate([answer.supervised for answer in answers]),
        labels=np.array([len(desirable.tokens) if desirable else 0], dtype=np.int32),
    )


def answers_of(example: Example) -> tuple[Example, ...]:
    """Its documents, a desirable one labelled 1, an undesirable one 0: the two of a pair in this
    order, or one.
    """
    first = int(example.labels[0])
    spans = (slice(None, first), slice(first, None))
    answers = (
        Example(example.tokens[span], example.supervised[span], np.array([label], dtype=np.int32))
        for label, span in zip((1, 0), spans, strict=True)
    )
    return tuple(answer for answer in answers if len(answer.tokens))


def count_answers(examples: Examples) -> tuple[int, int]:
    """How many desirable ones there are, and how many undesirable ones."""
    first = examples.first_labels
    return int((first > 0).sum()), int((first < examples.lengths).sum())

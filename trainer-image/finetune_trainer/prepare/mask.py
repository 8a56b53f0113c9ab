"""Which tokens are supervised: assistant turns, found for any chat template, each with its stop.

A turn begins where the rendering of everything before it, with the generation prompt, ends in the
rendering of the whole conversation; it ends with the first stop token behind that. No `generation`
marks are needed in the template. What cannot be found is an error, never a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from finetune_trainer.data.examples import Mask
from finetune_trainer.outcome import UserError
from finetune_trainer.prepare.format import Message
from finetune_trainer.prepare.template import ChatTemplate

Offsets = Sequence[tuple[int, int]]

# No text begins like it: the character is of Unicode's private use.
PROBE = "\ue000"

UNCLEAR = (
    "The chat template rewrites earlier turns or begins answers unlike its generation prompt, so "
    "where an assistant's turn begins cannot be found: set spec.model.chatTemplate to one that "
    "only appends, or try spec.dataset.loss LastTurn."
)


def turn_starts(
    template: ChatTemplate,
    messages: Sequence[Message],
    text: str,
    *,
    last_only: bool,
    given: int = 0,
) -> list[int]:
    """Where assistant turns behind the `given` first messages begin in `text`, the rendering of
    `messages`, in characters.

    A template may write into the generation prompt what it leaves out of finished turns (an open
    `<think>`): then the turn begins where the two part, if they share the prompt's beginning. It
    may also write earlier turns anew when others follow (the system's words before the last
    question): then the turn begins where its words do.

    Raises:
        UserError: a turn's beginning cannot be found.
    """
    turns = [
        index
        for index, message in enumerate(messages)
        if message["role"] == "assistant" and index >= given
    ]
    starts = []
    for index in turns[-1:] if last_only else turns:
        prefix = template.render(messages[:index], add_generation_prompt=True)
        if text.startswith(prefix):
            starts.append(len(prefix))
            continue
        shared, without = _shared(prefix, text), template.render(messages[:index])
        prompt = _shared(prefix, without)
        words = _start_of_words(template, messages, index, text)
        if text[prompt:shared].strip():
            # The words may begin like what was left out: <b> like <think>.
            starts.append(shared if words is None else min(shared, words))
        elif words is not None and text[:words].endswith(prefix[prompt:]):
            starts.append(words)
        else:
            raise UserError(UNCLEAR)
    return starts


def _start_of_words(
    template: ChatTemplate, messages: Sequence[Message], index: int, text: str
) -> int | None:
    """Where what turn `index` says begins in `text`, behind its question: where the text changes
    when it says something else. None if that is not found.
    """
    other = [*messages]
    other[index] = {**messages[index], "content": PROBE}
    changed = template.render(other)
    start = _shared(text, changed)
    is_behind = messages[index - 1]["content"].strip() in text[:start]
    return start if is_behind and changed.startswith(PROBE, start) else None


def supervise_turns(
    tokens: Sequence[int], offsets: Offsets, text: str, starts: Sequence[int], stops: Iterable[int]
) -> Mask:
    """One flag a token, shape [tokens]: true from each start up to and with the next stop token.

    Raises:
        UserError: a turn has no stop token before the next one begins.
    """
    wanted = frozenset(stops)
    mask = np.zeros(len(tokens), dtype=np.bool_)
    limits = [*starts[1:], len(text) + 1]
    for start, limit in zip(starts, limits, strict=True):
        first = first_token_behind(offsets, text, start)
        for position in range(first, len(tokens)):
            if offsets[position][0] >= limit:
                raise UserError(_no_stop())
            mask[position] = True
            if tokens[position] in wanted:
                break
        else:
            raise UserError(_no_stop())
    return mask


def first_token_behind(offsets: Offsets, text: str, boundary: int) -> int:
    """The first token that belongs behind the character position `boundary`.

    A token across the boundary belongs behind it if only white space lies before: that is how
    tokenizers join a blank to the word that follows.
    """
    for position, (start, end) in enumerate(offsets):
        if end > boundary and (start >= boundary or not text[start:boundary].strip()):
            return position
    return len(offsets)


def _shared(first: str, second: str) -> int:
    """How many characters two texts have in common from their beginning."""
    length = min(len(first), len(second))
    for position in range(length):
        if first[position] != second[position]:
            return position
    return length


def _no_stop() -> str:
    return (
        "An assistant's turn has no stop token behind it in the rendered conversation, so the "
        "model would not learn to stop: set spec.model.chatTemplate to one that closes every turn."
    )

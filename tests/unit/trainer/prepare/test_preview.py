from __future__ import annotations

from typing import cast

import numpy as np
from transformers import PreTrainedTokenizerBase

from finetune_trainer.data.examples import Example, Examples
from finetune_trainer.prepare.preview import COLOURS, preview


class Texts:
    """A tokenizer whose only token is this text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def decode(self, *_: object, **__: object) -> str:
        return self._text


def shown(text: str) -> str:
    example = Example(np.array([1]), np.array([True]))
    tokenizer = cast(PreTrainedTokenizerBase, Texts(text))
    return preview(cast(Examples, [example]), tokenizer, COLOURS)


def test_what_a_terminal_would_obey_is_shown_and_our_colours_stay() -> None:
    said = shown("a\x1b[2Jb\rc\x9bd\u202ee")
    assert f"{COLOURS[0]}a�[2Jb�c�d�e{COLOURS[1]}" in said


def test_text_of_any_language_is_shown_as_it_is() -> None:
    text = "Zeile\n\tñ 漢字\u3000नमस्ते 👩\u200d🔬"
    assert text in shown(text)

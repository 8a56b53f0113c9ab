"""How text that comes from a user is written where it is read: as Markdown, or as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from finetune_trainer.publish import markdown


class Wording(NamedTuple):
    """Two kinds of text: names of a program's, and words."""

    code: Callable[[object], str]
    plain: Callable[[object], str]


MARKDOWN = Wording(markdown.code, markdown.plain)
TEXT = Wording(str, str)

"""Text of others on a terminal: it may say anything and command nothing.

Specs, messages, logs and answers of a Hub are written by whoever may create a run. A terminal obeys
what stands in them: it moves its cursor, changes its title, fills the clipboard. Here it is made
plain; where that happens is `show/screen.py`'s and, of single lines, their printers' matter.
"""

from __future__ import annotations

import re

# Controls but line ends and tabs, changes of direction, and what is no character by itself.
_COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def harmless(text: object) -> str:
    """The text, with a mark in the place of everything that a terminal would obey."""
    return _COMMANDS.sub("\N{REPLACEMENT CHARACTER}", str(text))


def escaped(text: str) -> str:
    """The same for JSON's text, where nothing may be lost: escapes take the characters' place."""
    return _COMMANDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)

"""Command lines that pages show, taken apart as a shell would: which programs, with which words."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path

_BLOCK = re.compile(r"^( *)```console\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_TYPED = re.compile(r"^\$ ((?:.*\\\n)*.*)$", re.MULTILINE)
_BETWEEN = set("|;&()<>")
_VARIABLE = re.compile(r"[A-Z_]+=")


def typed(page: Path) -> Iterator[str]:
    """Every `$ …` of the page's console blocks, each on one line."""
    for block in _BLOCK.finditer(page.read_text()):
        for found in _TYPED.finditer(textwrap.dedent(block[2])):
            yield found[1].replace("\\\n", " ")


def programs(line: str) -> Iterator[list[str]]:
    """The words of each program that a line starts, without variables set before it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="".join(sorted(_BETWEEN)))
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if not set(word) <= _BETWEEN:
            words.append(word)
            continue
        while words and _VARIABLE.match(words[0]):
            words.pop(0)
        if words:
            yield words
        words = []

"""Shared prefixes: documents that begin with the same tokens run those once.

Equal tokens at equal positions, which see equal tokens before them, have equal hidden states; so a
row that holds a common beginning once, and after it every continuation, computes what separate
documents would, and gradients of the beginning add up by themselves. It is exact as long as nothing
in the model is random, such as dropout.

Belongs here: which tokens are held once. How attention follows the tree is `attention.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from finetune_trainer.data.examples import Tokens

# A segment costs a little by itself: what sharing it saves must be worth that.
MINIMUM_SAVING = 8

NO_PARENT = -1


@dataclass(frozen=True, slots=True)
class Segment:
    """`length` tokens in a row from `start`, at the positions from `depth` of their documents.

    They see themselves and, through `parent`, the segments before them, `depth` tokens in all.
    """

    start: int
    length: int
    depth: int
    parent: int


@dataclass(frozen=True, slots=True)
class Forest:
    """Documents laid out in one row. `tokens` is the row, `rows[i]` are the places of document i's
    tokens in it; parents come before their children in `segments`.
    """

    segments: tuple[Segment, ...]
    tokens: Tokens
    rows: tuple[NDArray[np.int64], ...]


def separate(documents: list[Tokens]) -> Forest:
    """Every document whole, one after the other."""
    segments, rows, start = [], [], 0
    for tokens in documents:
        segments.append(Segment(start, len(tokens), 0, NO_PARENT))
        rows.append(np.arange(start, start + len(tokens)))
        start += len(tokens)
    return Forest(tuple(segments), np.concatenate(documents), tuple(rows))


def share(documents: list[Tokens]) -> Forest:
    """Every common beginning once, wherever that saves `MINIMUM_SAVING` tokens: a trie whose
    branches are segments.
    """
    order = lexicographic(documents)
    common = common_lengths(documents, order)
    segments: list[Segment] = []
    pieces: list[Tokens] = []
    paths: dict[int, list[int]] = {}
    start = 0
    # Each entry: a run of `order` whose documents share `depth` tokens, laid out along `path`.
    runs: list[tuple[int, int, int, list[int]]] = [(0, len(order), 0, [])]
    while runs:
        low, high, depth, path = runs.pop()
        alone = high - low == 1
        shared = len(documents[order[low]]) if alone else int(common[low + 1 : high].min())
        saving = (shared - depth) * (1 if alone else high - low - 1)
        if shared > depth and (alone or saving >= MINIMUM_SAVING):
            parent = path[-1] if path else NO_PARENT
            path = [*path, len(segments)]
            segments.append(Segment(start, shared - depth, depth, parent))
            pieces.append(documents[order[low]][depth:shared])
            start += shared - depth
            depth = shared
        if alone:
            paths[order[low]] = path
            continue
        cuts = [low, *(low + 1 + np.flatnonzero(common[low + 1 : high] == shared)).tolist(), high]
        runs += [(a, b, depth, path) for a, b in pairwise(cuts)]
    rows = []
    for index in range(len(documents)):
        spans = [segments[each] for each in paths[index]]
        rows.append(np.concatenate([np.arange(s.start, s.start + s.length) for s in spans]))
    return Forest(tuple(segments), np.concatenate(pieces), tuple(rows))


def new_tokens(unit: list[Tokens], known: int) -> int:
    """How many tokens the documents of `unit` add to a row that has the first one's first `known`,
    beginnings too short to share counted as none.
    """
    shared = [known, *(int(common_lengths([unit[0], each], [0, 1])[1]) for each in unit[1:])]
    return sum(
        len(tokens) - (length if length >= MINIMUM_SAVING else 0)
        for tokens, length in zip(unit, shared, strict=True)
    )


def lexicographic(documents: list[Tokens]) -> list[int]:
    """Indexes of `documents` in an order that puts those with a common beginning side by side."""
    return sorted(range(len(documents)), key=lambda index: documents[index].tobytes())


def common_lengths(documents: list[Tokens], order: list[int]) -> NDArray[np.int64]:
    """How many first tokens each document of `order` shares with the one before it; 0 first."""
    lengths = [0][: len(order)]
    for one, other in pairwise(order):
        a, b = documents[one], documents[other]
        short = min(len(a), len(b))
        different = np.flatnonzero(a[:short] != b[:short])
        lengths.append(int(different[0]) if len(different) else short)
    return np.array(lengths, dtype=np.int64)

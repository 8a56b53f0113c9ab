"""Entities in a sequence of BIO tags, as the CoNLL-2000 evaluation has them and seqeval by default.

The repair rule: `I-X` that follows no `B-X` or `I-X` begins an entity, as if it were `B-X`.
"""

from __future__ import annotations

from collections.abc import Sequence

OUTSIDE = "O"

# Type, first word, word behind the last.
Entity = tuple[str, int, int]


def entities(tags: Sequence[str]) -> set[Entity]:
    """The entities in `tags`; a tag without `B-` or `I-` belongs to none."""
    found: set[Entity] = set()
    kind, start = "", 0
    for position, tag in enumerate([*tags, OUTSIDE]):
        prefix, _, name = tag.partition("-")
        inside = prefix in ("B", "I") and bool(name)
        if kind and not (inside and prefix == "I" and name == kind):
            found.add((kind, start, position))
            kind = ""
        if inside and not kind:
            kind, start = name, position
    return found

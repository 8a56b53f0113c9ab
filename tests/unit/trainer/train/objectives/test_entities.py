"""Entities of BIO tags, as seqeval finds them by default."""

import pytest

from finetune_trainer.train.objectives.entities import Entity, entities


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", set()),
        ("O O", set()),
        ("B-PER", {("PER", 0, 1)}),
        ("B-PER I-PER O B-LOC", {("PER", 0, 2), ("LOC", 3, 4)}),
        ("B-PER B-PER", {("PER", 0, 1), ("PER", 1, 2)}),
        ("B-PER I-LOC", {("PER", 0, 1), ("LOC", 1, 2)}),
        ("O I-PER I-PER", {("PER", 1, 3)}),
        ("I-PER B-PER I-PER", {("PER", 0, 1), ("PER", 1, 3)}),
        ("B-ORG I-ORG I-LOC I-LOC O", {("ORG", 0, 2), ("LOC", 2, 4)}),
        ("B-A-B I-A-B", {("A-B", 0, 2)}),
        ("NOUN VERB", set()),
    ],
)
def test_entities_and_the_repair_of_tags_that_do_not_begin(
    tags: str, expected: set[Entity]
) -> None:
    assert entities(tags.split()) == expected

"""Every sentence about a failed run ends with how it goes on, once."""

import pytest

from finetune_operator.core.remedy import CORRECT, USED_UP, with_remedy
from finetune_operator.core.text import SENTENCE_BYTES


@pytest.mark.parametrize(
    ("message", "retried", "told"),
    [
        ("The column is not there.", False, "The column is not there." + CORRECT),
        ("exceeded quota", False, "exceeded quota." + CORRECT),
        ("The Hub answered 503.", True, "The Hub answered 503." + USED_UP),
        ("Why? ", False, "Why?" + CORRECT),
        ("Set spec.rerunToken to a new value.", False, "Set spec.rerunToken to a new value."),
        ("Set spec.rerunToken to a new value.", True, "Set spec.rerunToken to a new value."),
    ],
)
def test_a_failure_says_how_to_go_on(message: str, retried: bool, told: str) -> None:
    assert with_remedy(message, retried=retried) == told


def test_the_remedy_stays_whole_whatever_must_be_cut() -> None:
    told = with_remedy("long " * 1000)
    assert told.endswith(CORRECT)
    assert len(told.encode()) <= SENTENCE_BYTES

from typing import Any

import pytest

from finetune_operator.core import text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("As it was.", "As it was."),
        (" two\n lines\t", "two lines"),
        ("a\x00b\x1b[31mc", "a b [31mc"),
        ("\ud800", "?"),
        (12, "12"),
        ("“größer”", "“größer”"),
    ],
)
def test_a_sentence_is_one_printable_line(given: Any, expected: str) -> None:
    assert text.sentence(given) == expected


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"401 for hf_{'a1' * 10}, sorry", "401 for [redacted], sorry"),
        (f"Authorization: Bearer {'x.-_' * 8}", "Authorization: Bearer [redacted]"),
        ("https://me:pass@hub.example/a@b", "https://[redacted]@hub.example/a@b"),
        ("hf_write is no token, and bearer bonds are none", None),
        ("https://hub.example:8443/a", None),
    ],
)
def test_credentials_are_not_passed_on(said: str, shown: str | None) -> None:
    assert text.sentence(said) == (shown or said)


def test_the_ending_of_a_sentence_is_never_cut() -> None:
    assert text.sentence("As it was.", " Then.") == "As it was. Then."
    cut = text.sentence("字" * 2000, " Then.")
    assert cut.endswith("… Then.")
    assert len(cut.encode()) <= text.SENTENCE_BYTES


@pytest.mark.parametrize("letter", ["x", "ß", "字", "🙂"])
def test_a_sentence_is_cut_between_letters_to_what_an_event_takes(letter: str) -> None:
    cut = text.sentence(letter * 2000)
    assert len(cut.encode()) <= 1024
    assert cut.endswith(f"{letter}…")


def test_nothing_is_no_short_text() -> None:
    assert text.short(None) is None
    assert text.short("  ") is None
    assert text.short("adapter") == "adapter"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.93421337, "1.93421"),
        (3, "3"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        ("1.930000", "1.930000"),
        ("9" * 100, "9" * 61 + "…"),
    ],
)
def test_a_metric_is_a_short_string_whatever_it_is(value: Any, expected: str) -> None:
    assert text.metric(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (84, 84),
        ("84", 84),
        ("84.0", 84),
        (0, 0),
        (-1, None),
        ("many", None),
        (None, None),
        (True, None),
        (float("nan"), None),
        ("1e400", None),
        (10**400, None),
        ([1], None),
    ],
)
def test_a_count_is_whole_and_not_absurd(value: Any, expected: int | None) -> None:
    assert text.whole(value) == expected

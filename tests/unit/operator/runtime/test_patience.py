import pytest

from finetune_operator.runtime.patience import until_look


@pytest.mark.parametrize(
    ("name", "waited", "since_last", "expected"),
    [
        ("most pods start at once", 0, None, 3),
        ("a little later", 2, None, 1),
        ("then it is looked into", 3, None, 0),
        ("also when nobody came in time", 99, None, 0),
        ("at first every ten seconds", 13, 10, 0),
        ("not for every event", 14, 1, 9),
        ("then ever more seldom", 100, 15, 5),
        ("but once a minute", 10**6, 20, 40),
        ("whatever happens", 10**6, 60, 0),
    ],
)
def test_who_waits_long_is_asked_seldom(
    name: str, waited: float, since_last: float | None, expected: float
) -> None:
    assert until_look(waited, since_last) == pytest.approx(expected), name

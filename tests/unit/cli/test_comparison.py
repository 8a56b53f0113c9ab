"""Several runs side by side."""

from __future__ import annotations

import pytest

from finetune_cli import comparison
from finetune_cli.comparison import Row
from finetune_cli.show.compare import view
from finetune_cli.view import Run
from unit.cli.examples import TRAINING, raw
from unit.cli.screens import text_of
from unit.operator.builders import merged

SMALL = Run(raw(TRAINING, "small", method={"lora": {"rank": 8}}, suspend=True))
LARGE = Run(
    raw(
        merged(TRAINING, {"metrics": {"loss": "1.1", "validationAccuracy": "0.75"}}),
        "large",
        method={"lora": {"rank": 64, "dora": True}},
    )
)


def differing() -> dict[str, tuple[str, ...]]:
    rows = comparison.settings([SMALL, LARGE])
    return {row.name: row.values for row in rows if row.differs}


def test_settings_that_differ_are_found_and_operational_ones_left_out() -> None:
    assert differing() == {"method.lora.rank": ("8", "64"), "method.lora.dora": ("-", "true")}


def test_results_have_what_any_of_the_runs_has() -> None:
    found = {row.name: row.values for row in comparison.results([SMALL, LARGE])}
    assert found["loss"] == ("1.234", "1.1")
    assert found["validationAccuracy"] == ("-", "0.75")
    assert found["failedAttempts"] == ("1", "1")
    assert "commit" not in found


@pytest.mark.parametrize(
    ("row", "winner"),
    [
        (Row("loss", ("1.2", "0.9", "-")), 1),
        (Row("loss", ("1.2", "1.2")), None),
        (Row("loss", ("1.2", "-")), None),
        (Row("tokensPerSecond", ("1", "2")), None),
        (Row("loss", ("nan", "5e-05", "1")), 1),
        (Row("loss", ("much", "1,234", "999")), 2),
    ],
)
def test_the_lowest_loss_wins(row: Row, winner: int | None) -> None:
    assert comparison.best(row) == winner


def test_the_view_has_a_column_for_each_run() -> None:
    shown = text_of(view([SMALL, LARGE], everything=False)).splitlines()
    assert shown[0].split() == ["SETTING", "small", "large"]
    assert "settings are the same (--all shows them)" in "\n".join(shown)
    assert ["loss", "1.234", "1.1"] in [line.split() for line in shown]


def test_all_settings_are_shown_when_asked_for() -> None:
    shown = text_of(view([SMALL, LARGE], everything=True))
    assert "acme/base" in shown
    assert "are the same" not in shown

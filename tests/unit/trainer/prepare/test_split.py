import pytest

from finetune_trainer.outcome import UserError
from finetune_trainer.prepare.split import validation_rows


def test_the_fraction_of_rows_is_drawn() -> None:
    assert validation_rows(1000, 0.1, seed=0, field="dataset").sum() == 100


def test_the_draw_depends_on_the_seed_alone() -> None:
    first = validation_rows(1000, 0.1, seed=0, field="dataset")
    assert (validation_rows(1000, 0.1, seed=0, field="dataset") == first).all()
    assert (validation_rows(1000, 0.1, seed=1, field="dataset") != first).any()


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_neither_side_is_left_empty(fraction: float) -> None:
    assert 1 <= validation_rows(5, fraction, seed=0, field="dataset").sum() <= 4


def test_a_single_row_cannot_be_split() -> None:
    with pytest.raises(UserError, match="cannot split 1 row"):
        validation_rows(1, 0.5, seed=0, field="dataset")

"""What a source may name, and what it may not."""

from pathlib import Path

import pytest

from finetune_trainer.outcome import UserError
from finetune_trainer.prepare.source import parse_source


def refused(source: str) -> str:
    with pytest.raises(UserError) as caught:
        parse_source("model", source, "main")
    return str(caught.value)


def test_a_path_that_leaves_the_claim_is_refused(sources: Path) -> None:
    assert "must stay inside" in refused("pvc://m/../secret")


def test_a_path_that_the_claim_does_not_hold_is_refused(sources: Path) -> None:
    assert refused("pvc://models/nothing") == (
        'spec.model.source names "nothing", which claim models does not hold: check the path.'
    )

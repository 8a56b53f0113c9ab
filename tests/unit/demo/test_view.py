"""The demo's live view says what a person waits for."""

from __future__ import annotations

from typing import Any

import pytest

from demo import proof, view


def resource(**status: Any) -> dict[str, Any]:
    return {"status": status}


def test_training_is_shown_with_step_loss_speed_and_time_left() -> None:
    running = resource(
        phase="Training",
        stage="train",
        progress={
            "display": {"percent": "42%", "step": "84/200"},
            "tokensPerSecond": "2310.4",
            "etaSeconds": 190,
        },
        metrics={"loss": "1.93"},
    )

    line = view.line(running)

    assert " ".join(line.split()) == (
        "Training train 42% step 84/200 loss 1.930 2,310 tok/s ETA 3m10s"
    )


def test_other_stages_are_shown_with_their_message() -> None:
    assert view.line(resource(phase="Preparing", stage="prepare", message="prepare runs")) == (
        "Preparing  prepare  prepare runs"
    )


def test_a_resource_that_nobody_has_touched_is_pending() -> None:
    assert view.line({}) == "Pending"
    assert not view.is_over({})


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_run_is_over_when_it_succeeded_or_failed(phase: str) -> None:
    assert view.is_over(resource(phase=phase))


def test_a_tuned_model_that_is_not_better_is_no_proof() -> None:
    metrics = {"baseValidationLoss": "2.0", "validationLoss": "2.0"}

    with pytest.raises(proof.ProofError, match="did not fall"):
        proof.losses(resource(metrics=metrics))


def test_a_missing_loss_is_no_proof() -> None:
    with pytest.raises(proof.ProofError, match="validationLoss"):
        proof.losses(resource(metrics={"baseValidationLoss": "2.0"}))

"""The loss curve is read from the lines that the trainer itself writes."""

from __future__ import annotations

from finetune_cli.history import History
from finetune_trainer.train.journal import log_line


def read(*lines: str) -> History:
    history = History()
    history.read(lines)
    return history


def test_the_trainers_own_lines_are_read() -> None:
    metrics = {"loss": 1.93, "learning_rate": 1e-4, "tokens_per_second": 2310.0}
    history = read(
        "waiting for rank 0 at host:29500",
        log_line(0, 200, {"base_eval_loss": 2.5}, None),
        log_line(10, 200, metrics, 180.0),
        log_line(20, 200, {**metrics, "loss": 1.5, "eval_loss": 1.75}, 170.0),
    )
    assert history.loss == {10: 1.93, 20: 1.5}
    assert history.validation == {20: 1.75}


def test_a_step_that_a_later_attempt_trains_again_counts_once() -> None:
    history = read("step 10/200  loss 2.0", "step 20/200  loss 1.9", "step 10/200  loss 1.8")
    assert history.loss == {10: 1.8, 20: 1.9}


def test_a_loss_that_is_not_finite_is_left_out() -> None:
    assert read("step 1/2  loss nan", "step 2/2  loss inf").loss == {}


def test_the_status_adds_the_latest_point() -> None:
    history = read("step 10/200  loss 2.0")
    history.add(12, "1.99")
    history.add(13, "NaN")
    history.add(None, "1.0")
    assert history.loss == {10: 2.0, 12: 1.99}

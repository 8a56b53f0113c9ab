"""/metrics, read over HTTP by Prometheus' own parser."""

from __future__ import annotations

import socket
import time
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from finetune_trainer.train import exposition as subject
from finetune_trainer.train.exposition import Exposition
from finetune_trainer.train.recipe import train
from finetune_trainer.train.stop import Stop
from unit.trainer.train.made import plan, prepared_workspace


def scrape(port: int | None) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_values_have_the_names_and_types_of_prometheus() -> None:
    with Exposition(0) as exposition:
        exposition.put(3, 10, {"loss": 2.5, "tokens": 900, "skipped_steps": 1}, 7.0)
        exposition.put(4, 10, {"eval_loss": 2.25, "base_eval_accuracy": 0.5}, None)
        found = scrape(exposition.port)
    assert found == {
        "finetune_train_steps_total": 4,
        "finetune_train_planned_steps": 10,
        "finetune_train_loss": 2.5,
        "finetune_train_tokens_total": 900,
        "finetune_train_skipped_steps_total": 1,
        "finetune_train_remaining_seconds": 7,
        "finetune_train_validation_loss": 2.25,
        "finetune_train_base_validation_accuracy": 0.5,
    }


def test_a_value_that_is_no_number_is_left_out() -> None:
    with Exposition(0) as exposition:
        exposition.put(1, 10, {"grad_norm": float("nan")}, None)
        assert "finetune_train_gradient_norm" not in scrape(exposition.port)


def test_a_port_that_is_taken_does_not_stop_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Exposition(port) as exposition:
            exposition.put(1, 10, {}, None)
    assert f"no metrics at port {port}" in capsys.readouterr().err


def test_a_run_serves_what_it_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[dict[str, float]] = []

    class Scraped(Exposition):
        """Is read after every value, as a scraper may."""

        def put(self, *args: object) -> None:
            super().put(*args)  # type: ignore[arg-type]
            found.append(scrape(self.port))

    monkeypatch.setattr("finetune_trainer.train.outlets.Exposition", Scraped)
    monkeypatch.setenv(subject.PORT, "0")
    _, result = train(plan(maxSteps=3), prepared_workspace(tmp_path), Stop())
    last = found[-1]
    assert last["finetune_train_steps_total"] == last["finetune_train_planned_steps"] == 3
    assert last["finetune_train_loss"] == pytest.approx(result["loss"])
    assert last["finetune_train_validation_loss"] == pytest.approx(result["validationLoss"])
    assert last["finetune_train_base_validation_loss"] > last["finetune_train_validation_loss"]
    assert last["finetune_train_supervised_tokens_per_second"] > 0
    assert (
        last["finetune_train_supervised_tokens_per_second"]
        < last["finetune_train_tokens_per_second"]
    )
    assert last["finetune_train_tokens_total"] > found[1]["finetune_train_tokens_total"]
    assert last["finetune_train_peak_memory_bytes"] > 2**20
    assert last["finetune_train_data_wait_seconds"] > 0
    assert last["finetune_train_last_checkpoint_timestamp_seconds"] == pytest.approx(
        time.time(), abs=300
    )
    assert "finetune_train_mfu_ratio" not in last  # a CPU's peak is not known


def test_a_checkpoint_makes_the_time_of_the_last_one_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    class Told(Exposition):
        """Notes the order of values and checkpoints."""

        def put(self, step: int, *args: object) -> None:
            told.append(f"step {step}")

        def saved(self) -> None:
            told.append("saved")

    monkeypatch.setattr("finetune_trainer.train.outlets.Exposition", Told)
    run = plan(maxSteps=2, checkpoint={"everySteps": 0, "keep": 2})
    train(run, prepared_workspace(tmp_path, validation=0), Stop())
    assert told[0] == "saved"  # training begins: nothing is lost yet
    assert told[1:3] == ["step 1", "step 2"]
    assert told.count("saved") == 2  # and what the last step left

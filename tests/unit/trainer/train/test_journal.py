"""What of the history a resumed run keeps."""

from __future__ import annotations

import json
from pathlib import Path

from finetune_trainer.train.journal import Journal


def journal(history: Path) -> Journal:
    return Journal(history, (), active=True)


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text("utf-8").split("\n") if line]


def test_what_comes_after_the_checkpoint_is_forgotten(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    told = journal(history)
    for step in range(1, 6):
        told.record(step, 9, {"loss": 2.0}, None)
    told.resume_at(3, evaluated=True)
    assert steps(history) == [1, 2, 3]


def test_an_evaluation_that_is_made_again_is_told_once(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    told = journal(history)
    told.record(3, 9, {"loss": 2.0}, None)
    told.record(3, 9, {"eval_loss": 2.5}, None)
    told.resume_at(3, evaluated=False)
    assert [json.loads(line).get("loss") for line in history.read_text().splitlines()] == [2.0]


def test_a_line_that_was_torn_within_a_character_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "skipped-steps.jsonl"
    whole = json.dumps({"step": 1, "text": "naïve\u2028"}, ensure_ascii=False)
    path.write_bytes(f"{whole}\n".encode() + f"{whole}\n".replace("1", "2").encode()[:24])
    journal(tmp_path / "history.jsonl").forget_after(2, path)
    assert path.read_text("utf-8") == f"{whole}\n"


def test_a_rank_without_a_journal_changes_nothing(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    journal(history).record(3, 9, {"loss": 2.0}, None)
    Journal(history, (), active=False).resume_at(-1, evaluated=False)
    assert steps(history) == [3]

"""What `make bench-train` computes from times; the times themselves are nobody's to assert."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import task as tasks
from train_speed import report
from train_speed.entry import Entry, peer_task
from train_speed.parity import deviation
from train_speed.race import Race
from train_speed.roofline import Shape, needed
from train_speed.session import ContestantError, Session, Step
from train_speed.steps import Made
from train_speed.workloads import WORKLOADS

SHAPE = Shape(layers=1, heads=2, head_size=4, hidden=8, vocabulary=10, linears=((8, 16),))


def task_of(lengths: list[int], micro_batches: int, kind: str = "generation") -> tasks.Task:
    return tasks.Task(
        model="",
        dtype="float32",
        kind=kind,
        rows=[{"input_ids": [0] * length, "labels": [0] * length} for length in lengths],
        steps=[list(range(len(lengths)))],
        micro_batches=micro_batches,
        sequence_length=64,
        learning_rate=1e-4,
        rank=4,
        alpha=8,
        initial_adapter="",
        threads=1,
    )


def made_of(**parts: Any) -> Made:
    """Data of which only these parts matter."""
    absent: dict[str, Any] = {
        "rows": [],
        "steps": [],
        "tokens": [],
        "supervised": [],
        "lengths": [],
        "run": {},
    }
    return Made(model=Path(), workspace=Path(), **{**absent, **parts})


def race_of(**seconds: list[list[float]]) -> Race:
    """A race with steps of 100 tokens; `seconds` of each round, by contestant."""
    entries = []
    for name, rounds in seconds.items():
        numbers = iter(range(1, 100))
        taken = [[Step(next(numbers), each) for each in times] for times in rounds]
        entries.append(Entry(name, is_ours=name == "ours", directory=Path(), rounds=taken))
    made = made_of(tokens=[100] * 99, supervised=[50] * 99)
    return Race(WORKLOADS["short"], "float32", made, SHAPE, entries)


def test_a_token_needs_its_products_forward_and_back_and_a_supervised_one_the_head() -> None:
    # One linear of 8 x 16, rank 2: 256 FLOPs a token and pass, LoRA 96; attention 2 l^2 H d;
    # head 160 a supervised token and pass.
    expected = 4 * (2 * 256 + 3 * 96) + 3 * (2 * 16 * 8) + 3 * 2 * 160
    assert needed(SHAPE, [4], 3, rank=2) == expected


def test_a_preference_step_needs_the_references_forward_pass_too() -> None:
    extra = 4 * 256 + 2 * 16 * 8 + 3 * 160
    plain = needed(SHAPE, [4], 3, rank=2)
    assert needed(SHAPE, [4], 3, rank=2, preference=True) == plain + extra


@pytest.mark.parametrize("make", [tasks.by_length, tasks.packs])
@pytest.mark.parametrize("lengths", [[5, 50, 7, 30, 9, 8, 2], [1, 1, 1, 1], [90, 1, 1, 1, 1]])
def test_a_peers_micro_batches_hold_every_document_of_the_step_once(
    make: Callable[[tasks.Task], list[list[int]]], lengths: list[int]
) -> None:
    batches = make(task_of(lengths, 4))
    assert len(batches) == 4
    assert all(batches)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))


def test_documents_of_like_length_share_a_micro_batch() -> None:
    batches = tasks.by_length(task_of([20, 50, 20, 50, 20, 20, 20], 2))
    assert [set(batch) for batch in batches] == [{0, 2, 4, 5, 6}, {1, 3}]


def test_the_ratio_is_to_the_fastest_peer_by_medians() -> None:
    race = race_of(ours=[[1.0], [1.0]], slow=[[4.0]], fast=[[2.0], [9.0], [2.0]])
    assert report.ratio(race) == pytest.approx(2.0)


def test_a_contestant_of_ours_that_failed_counts_as_zero() -> None:
    race = race_of(ours=[], fast=[[2.0]])
    race.entries[0].error = "exit code 1: out of luck"
    assert report.ratio(race) == 0.0
    assert report.summary([race]) == ["ratio_vs_best_peer=0.000", "geomean_vs_best_peer=0.000"]


def test_a_workload_that_ours_cannot_train_yet_is_not_counted() -> None:
    races = [race_of(fast=[[2.0]]), race_of(ours=[[1.0]], fast=[[3.0]])]
    assert report.summary(races) == ["ratio_vs_best_peer=3.000", "geomean_vs_best_peer=3.000"]


def test_losses_are_compared_step_by_step_and_the_first_alone_tells_nothing() -> None:
    assert deviation({1: 2.0, 2: 1.5, 3: 9.0}, [2.0, 1.4]) == pytest.approx(0.1)
    assert deviation({1: 2.0}, [2.0, 1.4]) is None


def test_a_contestant_that_dies_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(ContestantError, match="exit code 3: no such luck"):
        Session(
            ["python3", "-c", "import sys; print('no such luck', file=sys.stderr); sys.exit(3)"],
            {},
            tmp_path,
        )


def test_an_ablation_tells_how_much_slower_training_is_without_a_technique() -> None:
    race = race_of(**{"ours": [[1.0]], "without prefixes": [[2.0]]})
    (line,) = report.ablation([race])[1:]
    assert line.startswith("short, float32, without prefixes")
    assert line.split()[-5:] == ["100", "50", "-50%", "?", "?"]


def test_a_task_names_the_rows_of_its_steps_and_no_others() -> None:
    rows = [{"input_ids": [token], "labels": [token]} for token in range(6)]
    made = made_of(rows=rows, steps=[[4, 1], [5, 1], [0]])
    task = peer_task(WORKLOADS["short"], made, "float32", Path("adapter"), threads=1, steps=2)
    taken = [[task["rows"][index]["input_ids"][0] for index in step] for step in task["steps"]]
    assert taken == [[4, 1], [5, 1]]
    assert len(task["rows"]) == 3

"""Work that is shared out to processes and comes back in order."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_trainer.outcome import Outcome, UserError, classify
from finetune_trainer.prepare.workers import AHEAD, MOST_PROCESSES, granted_cpus, ordered_map


def square(number: int) -> int:
    return number * number


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_results_come_in_the_order_of_the_tasks(processes: int, count: int) -> None:
    results = list(ordered_map(square, range(count), processes))
    assert results == [number * number for number in range(count)]


def test_the_work_is_done_by_as_many_processes_as_asked() -> None:
    assert os.getpid() not in set(ordered_map(lambda _: os.getpid(), range(50), 2))
    assert set(ordered_map(lambda _: os.getpid(), range(50), 1)) == {os.getpid()}


def test_tasks_are_taken_no_further_than_a_few_ahead_of_the_results() -> None:
    taken = 0

    def tasks() -> Iterator[int]:
        nonlocal taken
        for number in range(1, 1001):
            taken = number
            yield number

    for done, _ in enumerate(ordered_map(square, tasks(), 2), start=1):
        assert taken <= done + 2 * AHEAD
    assert taken == 1000


def test_an_error_is_raised_as_it_was_for_the_first_task_that_failed() -> None:
    def fail(number: int) -> int:
        if number >= 7:
            raise UserError(f"not {number}")
        return number

    results = ordered_map(fail, range(100), 2)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(UserError, match="not 7"):
        next(results)


def test_a_process_that_is_killed_counts_as_out_of_memory() -> None:
    def die(number: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(MemoryError) as caught:
        list(ordered_map(die, range(10), 2))
    assert classify(caught.value) is Outcome.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8), ("", 8)],
)
def test_cpus_are_those_that_the_container_may_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, cpus: int
) -> None:
    monkeypatch.delenv("FINETUNE_CPUS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "cpu.max").write_text(quota)
    assert granted_cpus(tmp_path / "cpu.max") == cpus
    assert granted_cpus(tmp_path / "none") == 8
    monkeypatch.setenv("FINETUNE_CPUS", "3")
    assert granted_cpus(tmp_path / "cpu.max") == 3


def test_there_are_no_more_processes_than_memory_is_for() -> None:
    pids = set(ordered_map(lambda _: os.getpid(), range(500), 200))
    assert len(pids) <= MOST_PROCESSES


def test_whoever_stops_taking_results_leaves_no_process_behind() -> None:
    pids = ordered_map(lambda _: os.getpid(), range(1000), 2)
    seen = {next(pids) for _ in range(20)}
    pids.close()  # type: ignore[attr-defined]
    for pid in seen:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

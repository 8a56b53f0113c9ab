"""Who holds a run up, and that it does not stand still for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from finetune_trainer.outcome import Outcome
from finetune_trainer.train import heartbeat
from finetune_trainer.train.heartbeat import STALL_SECONDS, Heart, Sign, culprit
from unit.trainer.train.forked import start
from unit.trainer.train.made import REPOSITORY, plan, prepared_workspace
from unit.trainer.train.test_launch import LONG, TWO, finish, termination_message


def sign(rank: int, beats: int, *, resting: bool = False, age: float = 0.0) -> Sign:
    return Sign(rank, beats, f"in step {beats}", resting, age)


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ([], "rank 0 itself gets no further, in step 5"),
        ([sign(1, 5)], "rank 0 itself gets no further, in step 5"),
        ([sign(1, 6)], "rank 0 itself gets no further, in step 5"),
        ([sign(1, 4)], "rank 1 (it is in step 4) did not get as far as the others"),
        (
            [sign(1, 4), sign(2, 5), sign(3, 4)],
            "rank 1 (it is in step 4), rank 3 (it is in step 4) did not get as far as the others",
        ),
        ([sign(1, 5, age=31)], "nothing is heard of rank 1 (it was in step 5)"),
        ([sign(1, 4), sign(2, 5, age=31)], "nothing is heard of rank 2 (it was in step 5)"),
        ([sign(1, 4, resting=True)], None),  # it writes a checkpoint, say
        (
            [sign(1, 4, resting=True, age=31)],
            "nothing is heard of rank 1 (it was in step 4)",
        ),
    ],
)
def test_whoever_did_not_come_is_named(others: list[Sign], why: str | None) -> None:
    assert culprit(sign(0, 5), others, silent_after=30.0) == why


@pytest.mark.parametrize("content", ["", "{}", "[]"])
def test_a_sign_that_makes_no_sense_is_that_of_a_rank_which_is_not_there(
    content: str, tmp_path: Path
) -> None:
    """A file that a power cut emptied must not end the watch."""
    (tmp_path / "heartbeat-1.json").write_text(content)
    found = heartbeat._read(tmp_path, 1, time.time())
    assert culprit(sign(0, 5), [found], silent_after=30.0) == (
        "nothing is heard of rank 1 (it was never there)"
    )


def test_ranks_that_do_the_same_count_the_same() -> None:
    one, other = Heart(0, 2), Heart(1, 2)
    for heart in (one, other):
        assert list(heart.beating("in step 1", "abc")) == ["a", "b", "c"]
        heart.tick()
    one.rest("writing a checkpoint")  # what only one does is not counted
    assert one._own(age=0.0).beats == other._own(age=0.0).beats == 4


@pytest.mark.timeout(700)
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_rank_that_hangs_is_named_by_the_one_that_waits_for_it(
    stopped: int, tmp_path: Path
) -> None:
    workspace = prepared_workspace(tmp_path / "workspace")
    process = start(workspace, LONG, **TWO, FINETUNE_STALL_SECONDS="12")
    deadline = time.monotonic() + 300
    sign = workspace.logs / f"heartbeat-{stopped}.json"
    while not sign.exists() or "in step" not in sign.read_text():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[stopped]), signal.SIGSTOP)
    code, output = finish(process, 300)
    assert code == Outcome.RETRYABLE, output
    message = termination_message(workspace)["message"]
    assert message.startswith("Training has stood still for 12 s (spec.runPolicy.stallSeconds): ")
    assert f"nothing is heard of rank {stopped} (it was in step" in message
    # The stacks of the one that waits: where it waits.
    assert f"rank {1 - stopped} stands still in step" in output
    assert "most recent call first" in output
    assert "in backward" in output or "in _reduce" in output


@pytest.mark.timeout(700)
def test_a_process_that_hangs_by_itself_says_where(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path)
    run_file = tmp_path / "run.json"
    run_file.write_text(plan().model_dump_json(by_alias=True))
    # A hang inside a library cannot be caused from outside: the step's seed waits for ever.
    program = (
        "import threading\n"
        "from finetune_trainer import __main__\n"
        "from finetune_trainer.train import recipe\n"
        "def hang_in_here(*_): threading.Event().wait()\n"
        "recipe.seed_step = hang_in_here\n"
        "__main__.main(['train'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=400,
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY / "trainer-image"),
            "FINETUNE_RUN_FILE": str(run_file),
            "FINETUNE_WORKSPACE": str(workspace.root),
            "FINETUNE_TERMINATION_LOG": str(workspace.root / "termination-log"),
            STALL_SECONDS: "2",
        },
        check=False,
    )
    assert done.returncode == Outcome.RETRYABLE, done.stderr
    assert "in hang_in_here" in done.stderr
    assert (
        "rank 0 itself gets no further, evaluating after step 0"
        in (termination_message(workspace)["message"])
    )

from __future__ import annotations

import asyncio

import pytest

from finetune_operator.shell import watches
from finetune_operator.shell.settings import Backoffs

ALL = ["finetunejobs.v1alpha1.finetune.dev@a", "jobs.v1.batch@a"]


def watch(what: str) -> asyncio.Task[None]:
    return asyncio.create_task(asyncio.sleep(60), name=f"watcher for {what}")


async def test_each_kind_is_watched_in_each_namespace() -> None:
    tasks = [watch(what) for what in ALL]
    assert watches.missing(["a"]) == []
    assert watches.missing(["a", "b"]) == [what.replace("@a", "@b") for what in ALL]
    assert len(watches.missing([])) == 2
    tasks[0].cancel()
    await asyncio.sleep(0)
    assert watches.missing(["a"]) == ALL[:1]
    tasks[1].cancel()


async def test_the_first_that_dies_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "CHECK_SECONDS", 0.001)
    guard = asyncio.create_task(watches.until_one_dies(["a"]))
    await asyncio.sleep(0.01)
    assert not guard.done()  # not begun yet is not dead
    tasks = [watch(what) for what in ALL]
    await asyncio.sleep(0.01)
    tasks[1].cancel()
    assert await asyncio.wait_for(guard, 1) == ALL[1]
    tasks[0].cancel()


def test_a_watch_never_gives_up() -> None:
    pauses = Backoffs()
    for _ in range(2):  # each call counts anew
        found = [pause for pause, _ in zip(pauses, range(100), strict=False)]
        assert found[0] == 0.2
        assert found[-1] == 10.0

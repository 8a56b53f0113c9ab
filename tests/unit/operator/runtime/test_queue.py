from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from finetune_operator.runtime.queue import (
    FIRST_DELAY,
    LONGEST_DELAY,
    URGENT_IN_A_ROW,
    Queue,
)


def one_group(jitter: Callable[[], float] = lambda: 0.5) -> Queue[str]:
    """A queue whose keys are all of one group."""
    return Queue(group=lambda _: None, jitter=jitter)


async def next_of(queue: Queue[str]) -> str:
    return await asyncio.wait_for(queue.get(), timeout=20)


async def is_empty(queue: Queue[str]) -> bool:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), timeout=0.02)
    return True


async def test_a_key_waits_once_however_often_it_comes() -> None:
    queue = one_group()
    for _ in range(3):
        queue.add("a")
    assert await next_of(queue) == "a"
    assert await is_empty(queue)


async def test_keys_come_in_order_and_urgent_ones_first() -> None:
    queue = one_group()
    queue.add("a")
    queue.add("b")
    queue.add("c", urgent=True)
    assert [await next_of(queue) for _ in range(3)] == ["c", "a", "b"]


async def test_a_waiting_key_can_become_urgent() -> None:
    queue = one_group()
    queue.add("a")
    queue.add("b")
    queue.add("b", urgent=True)
    assert [await next_of(queue) for _ in range(2)] == ["b", "a"]
    assert await is_empty(queue)


async def test_no_key_is_in_two_workers() -> None:
    queue = one_group()
    queue.add("a")
    await next_of(queue)
    queue.add("a")
    assert await is_empty(queue)
    queue.done("a")
    assert await next_of(queue) == "a"
    queue.done("a")
    assert await is_empty(queue)


async def test_a_key_comes_back_after_its_delay_or_earlier_for_a_reason() -> None:
    queue = one_group()
    queue.add_after("a", 0.05)
    assert await is_empty(queue)
    assert await next_of(queue) == "a"
    queue.done("a")
    queue.add_after("a", 60)
    queue.add("a")
    assert await next_of(queue) == "a"


async def test_of_two_delays_the_shorter_counts() -> None:
    queue = one_group()
    queue.add_after("a", 0.03)
    queue.add_after("a", 60)
    assert await next_of(queue) == "a"
    queue.done("a")
    queue.add_after("a", 60)
    queue.add_after("a", 0.03)
    assert await next_of(queue) == "a"
    queue.done("a")
    assert await is_empty(queue)
    queue.close()


async def test_failures_wait_longer_each_time_until_forgotten() -> None:
    queue = one_group(jitter=lambda: 1.0)
    delays = [queue.retry("a") for _ in range(20)]
    assert delays[:3] == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY]
    assert delays[-1] == LONGEST_DELAY
    queue.forget("a")
    assert queue.retry("a") == FIRST_DELAY
    queue.close()


async def test_what_the_server_asked_for_is_the_least_delay() -> None:
    queue = one_group(jitter=lambda: 0.0)
    assert queue.retry("a", at_least=30) == 30
    queue.close()


async def test_only_what_a_worker_holds_is_held() -> None:
    queue = one_group()
    queue.add("a")
    await asyncio.sleep(0.03)
    assert queue.held() == 0
    await next_of(queue)
    await asyncio.sleep(0.02)
    assert 0.02 <= queue.held() < 0.03 + 1
    queue.done("a")
    assert queue.held() == 0


async def test_urgent_keys_leave_a_place_for_the_others() -> None:
    queue = one_group()
    queue.add("a")
    queue.add("b")
    for number in range(URGENT_IN_A_ROW * 2):
        queue.add(f"urgent-{number}", urgent=True)
    order = [await next_of(queue) for _ in range(URGENT_IN_A_ROW * 2 + 2)]
    assert order.index("a") == URGENT_IN_A_ROW
    assert order.index("b") == 2 * URGENT_IN_A_ROW + 1


async def test_groups_take_turns_also_when_urgent() -> None:
    for urgent in (False, True):
        queue: Queue[str] = Queue(group=lambda key: key[0])
        for key in ("a1", "a2", "a3", "b1", "c1", "c2"):
            queue.add(key, urgent=urgent)
        order = [await next_of(queue) for _ in range(6)]
        assert order == ["a1", "b1", "c1", "a2", "c2", "a3"]
        assert await is_empty(queue)


async def test_how_long_keys_wait_is_told() -> None:
    waits: list[float] = []
    queue: Queue[str] = Queue(group=lambda _: None, waited=waits.append)
    queue.add("a")
    queue.add("b")
    assert queue.waiting() == 2
    await asyncio.sleep(0.02)
    queue.add("a", urgent=True)
    assert await next_of(queue) == "a"
    assert queue.waiting() == 1
    assert waits[0] >= 0.02

from __future__ import annotations

import asyncio

import pytest

from finetune_operator.runtime.queue import FIRST_DELAY, LONGEST_DELAY, Queue


async def next_of(queue: Queue[str]) -> str:
    return await asyncio.wait_for(queue.get(), timeout=1)


async def is_empty(queue: Queue[str]) -> bool:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), timeout=0.02)
    return True


async def test_a_key_waits_once_however_often_it_comes() -> None:
    queue: Queue[str] = Queue()
    for _ in range(3):
        queue.add("a")
    assert await next_of(queue) == "a"
    assert await is_empty(queue)


async def test_keys_come_in_order_and_urgent_ones_first() -> None:
    queue: Queue[str] = Queue()
    queue.add("a")
    queue.add("b")
    queue.add("c", urgent=True)
    assert [await next_of(queue) for _ in range(3)] == ["c", "a", "b"]


async def test_a_waiting_key_can_become_urgent() -> None:
    queue: Queue[str] = Queue()
    queue.add("a")
    queue.add("b")
    queue.add("b", urgent=True)
    assert [await next_of(queue) for _ in range(2)] == ["b", "a"]
    assert await is_empty(queue)


async def test_no_key_is_in_two_workers() -> None:
    queue: Queue[str] = Queue()
    queue.add("a")
    await next_of(queue)
    queue.add("a")
    assert await is_empty(queue)
    queue.done("a")
    assert await next_of(queue) == "a"
    queue.done("a")
    assert await is_empty(queue)


async def test_a_key_comes_back_after_its_delay_or_earlier_for_a_reason() -> None:
    queue: Queue[str] = Queue()
    queue.add_after("a", 0.05)
    assert await is_empty(queue)
    assert await next_of(queue) == "a"
    queue.done("a")
    queue.add_after("a", 60)
    queue.add("a")
    assert await next_of(queue) == "a"


async def test_of_two_delays_the_shorter_counts() -> None:
    queue: Queue[str] = Queue()
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
    queue: Queue[str] = Queue(jitter=lambda: 1.0)
    delays = [queue.retry("a") for _ in range(20)]
    assert delays[:3] == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY]
    assert delays[-1] == LONGEST_DELAY
    queue.forget("a")
    assert queue.retry("a") == FIRST_DELAY
    queue.close()


async def test_what_the_server_asked_for_is_the_least_delay() -> None:
    queue: Queue[str] = Queue(jitter=lambda: 0.0)
    assert queue.retry("a", at_least=30) == 30
    queue.close()


async def test_age_is_that_of_the_oldest_key_waiting_or_held() -> None:
    queue: Queue[str] = Queue()
    assert queue.age() == 0
    queue.add("a")
    await asyncio.sleep(0.03)
    queue.add("b", urgent=True)
    assert queue.age() >= 0.03
    await next_of(queue)
    await next_of(queue)
    await asyncio.sleep(0.02)
    assert queue.age() >= 0.02
    queue.done("a")
    queue.done("b")
    assert queue.age() == 0

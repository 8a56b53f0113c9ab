"""Ranks meet whoever comes first, say who is missing, and hear SIGTERM while they wait."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from finetune_trainer.outcome import PreemptedError, RetryableError
from finetune_trainer.train import rendezvous as subject
from finetune_trainer.train.rendezvous import meet
from finetune_trainer.train.stop import Stop


@pytest.fixture
def port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def _sigterm_soon() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    Stop().install()
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    yield
    timer.join()
    signal.signal(signal.SIGTERM, before)


def test_a_rank_that_comes_before_rank_0_waits_for_it(port: int) -> None:
    with ThreadPoolExecutor() as pool:
        others = [pool.submit(meet, rank, 3, "127.0.0.1", port) for rank in (2, 1)]
        time.sleep(0.5)
        first = meet(0, 3, "127.0.0.1", port)
        first.set("word", "heard")
        assert [other.result(10).get("word") for other in others] == [b"heard", b"heard"]


@pytest.mark.usefixtures("_sigterm_soon")
@pytest.mark.parametrize("rank", [0, 1])
def test_sigterm_is_heard_while_others_are_awaited(rank: int, port: int) -> None:
    with pytest.raises(PreemptedError, match="before the first step"):
        meet(rank, 2, "127.0.0.1", port)


def test_the_ranks_that_did_not_come_are_named(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "PATIENCE_SECONDS", 0.5)
    with pytest.raises(RetryableError, match=rf"127\.0\.0\.1:{port} .*: rank 1, 2 did not come"):
        meet(0, 3, "127.0.0.1", port)


def test_a_rank_0_that_never_came_is_named_with_the_cause(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "PATIENCE_SECONDS", 0.5)
    with pytest.raises(RetryableError, match=r"Rank 0 .* not be reached .*Connection refused"):
        meet(1, 2, "127.0.0.1", port)

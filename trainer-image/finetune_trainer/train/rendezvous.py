"""How the ranks of a run meet before they compute anything: at rank 0's store, with patience.

Python waits here, in slices: C++ would wait just as long, but deaf to SIGTERM. What the ranks do
together once they have met is in `parallel.py`.
"""

from __future__ import annotations

import socket
import time
from datetime import timedelta

from torch.distributed import DistError, Store, TCPStore

from finetune_trainer.outcome import RetryableError

# Pods do not start together: one node has the image, another still pulls its several GB, a third is
# only being made.
PATIENCE_SECONDS = 15 * 60.0
# A SIGTERM is heard after this long at the latest.
SLICE_SECONDS = 2.0
POLL_SECONDS = 0.2


def meet(rank: int, world_size: int, address: str, port: int) -> Store:
    """The store that all ranks share (rank 0 holds it at `address:port`), once all have come.

    Raises:
        RetryableError: somebody did not come in time, or rank 0 was lost meanwhile.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    if rank:
        _await_listener(address, port, deadline)
    try:
        store = TCPStore(
            address,
            port,
            world_size,
            is_master=rank == 0,
            timeout=timedelta(seconds=10 * SLICE_SECONDS),
            wait_for_workers=False,
        )
        store.set(_arrival(rank), "")
        _await_all(store, world_size, f"{address}:{port}", deadline)
    except DistError as error:
        raise RetryableError(
            f"Rank 0 of the run was lost while the others came to {address}:{port}: {error}"
        ) from error
    return store


def _await_listener(address: str, port: int, deadline: float) -> None:
    """Return when somebody listens there; until rank 0's pod runs, not even its name is known."""
    told = False
    while True:
        try:
            socket.create_connection((address, port), timeout=SLICE_SECONDS).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise RetryableError(
                    f"Rank 0 of the run could not be reached at {address}:{port} within "
                    f"{_patience()}: {error}"
                ) from error
        if not told:
            told = True
            print(f"waiting for rank 0 at {address}:{port}", flush=True)
        time.sleep(POLL_SECONDS)


def _await_all(store: Store, world_size: int, where: str, deadline: float) -> None:
    everyone = [_arrival(rank) for rank in range(world_size)]
    told = False
    while not store.check(everyone):
        if time.monotonic() > deadline:
            missing = [rank for rank in range(world_size) if not store.check([_arrival(rank)])]
            raise RetryableError(
                f"The {world_size} processes of the run did not meet at {where} within "
                f"{_patience()}: rank {', '.join(map(str, missing))} did not come: "
                "look why its pod does not run, or lower spec.resources.nodes."
            )
        if not told:
            told = True
            print(f"waiting for all {world_size} processes at {where}", flush=True)
        time.sleep(POLL_SECONDS)


def _arrival(rank: int) -> str:
    return f"arrived/{rank}"


def _patience() -> str:
    return f"{PATIENCE_SECONDS / 60:.0f} minutes"

"""The ranks of a run and the few things they do together: meet, add up, agree.

With one rank there is no process group and every operation is the identity, so that the recipe has
one path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
from torch import distributed, nn

from finetune_trainer.outcome import RetryableError
from finetune_trainer.train.heartbeat import Heart
from finetune_trainer.train.rendezvous import meet

# All are there, so this is short; SIGTERM goes unheard in it, and its grace is 120 s.
CONNECT_TIMEOUT = timedelta(seconds=90)
# Covers the slowest thing that one rank does while the others wait: a checkpoint. The 84 GB
# of a fully trained 7B model, written, synced and read again for their checksum at 100 MB/s, take
# half an hour. A lost peer is noticed long before, by its closed connection or the end of its pod.
COLLECTIVE_TIMEOUT = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's place, in torch's own terms."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @classmethod
    def from_environment(cls) -> Ranks:
        return cls(
            rank=int(os.environ.get("RANK", "0")),
            world_size=int(os.environ.get("WORLD_SIZE", "1")),
            local_rank=int(os.environ.get("LOCAL_RANK", "0")),
            local_world_size=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        )


class Group:
    """All ranks together."""

    def __init__(self, ranks: Ranks, device: torch.device, heart: Heart | None = None) -> None:
        self.rank = ranks.rank
        self.world_size = ranks.world_size
        self.local_world_size = ranks.local_world_size
        self.is_main = ranks.rank == 0
        self.device = device
        self.heart = heart or Heart(ranks.rank, ranks.world_size)

    def sum(self, values: list[float]) -> list[float]:
        """Element by element, the sum over the ranks."""
        return self._reduce(values, distributed.ReduceOp.SUM)

    def maximum(self, value: float) -> float:
        """The largest of the ranks' values."""
        return self._reduce([value], distributed.ReduceOp.MAX)[0]

    def any(self, value: bool) -> bool:
        """Whether it is true on any rank."""
        return self.maximum(float(value)) > 0

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.maximum(0.0)

    def turns(self, count: int) -> Iterator[tuple[int, bool]]:
        """Which of `count` things this rank does, and whether it is the one to do it: the ranks
        take turns, and all get as many, since a pass may need all of them (see `Engine`).
        """
        for start in range(0, count, self.world_size):
            place = start + self.rank
            yield min(place, count - 1), place < count

    def _reduce(
        self, values: list[float], operation: distributed.ReduceOp.RedOpType
    ) -> list[float]:
        self.heart.tick()
        if self.world_size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(tensor, operation)
        reduced = [float(value) for value in tensor.tolist()]
        self.heart.tick()
        return reduced


@contextmanager
def process_group(
    ranks: Ranks, device: torch.device, heart: Heart, *, alone: bool = True, offload: bool = False
) -> Iterator[Group]:
    """Meet the other ranks at `MASTER_ADDR:MASTER_PORT` (rank 0 listens there) and part at the end.

    `alone` is whether a single rank does without a group of torch's; `offload` whether what lies in
    CPU memory is shared too, beside an accelerator.

    Raises:
        RetryableError: the others did not come in time, or one of them was lost on the way.
    """
    group = Group(ranks, device, heart)
    if ranks.world_size == 1:
        if alone:
            yield group
            return
        distributed.init_process_group(
            _backend(device, offload), store=distributed.HashStore(), rank=0, world_size=1
        )
        try:
            yield group
        finally:
            distributed.destroy_process_group()
        return
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = meet(ranks.rank, ranks.world_size, address, port)
    try:
        distributed.init_process_group(
            _backend(device, offload),
            store=store,
            rank=ranks.rank,
            world_size=ranks.world_size,
            timeout=CONNECT_TIMEOUT,
        )
        group.barrier()
        distributed.set_timeout(COLLECTIVE_TIMEOUT)
    except RuntimeError as error:
        raise RetryableError(
            f"The {ranks.world_size} processes of the run met at {address}:{port}, but could not "
            f"connect to each other: {error}"
        ) from error
    try:
        yield group
    except RuntimeError as error:
        if is_communication_error(error):
            raise RetryableError(
                "Another process of the run was lost, so this one cannot go on."
            ) from error
        raise
    finally:
        distributed.destroy_process_group()


def _backend(device: torch.device, offload: bool) -> str:
    if device.type == "cpu":
        return "gloo"
    return "cpu:gloo,cuda:nccl" if offload else "nccl"


def is_communication_error(error: RuntimeError) -> bool:
    """Whether `error` says that a peer is gone; gloo has no exception class of its own."""
    text = str(error).lower()
    return isinstance(error, distributed.DistError) or any(
        word in text for word in ("gloo", "nccl", "connection closed by peer", "connection reset")
    )


def assert_same_start(group: Group, parameters: list[nn.Parameter]) -> None:
    """Prove that all ranks begin with the same trainable weights.

    Raises:
        RuntimeError: they do not, and averaging gradients would be meaningless.
    """
    value = float(sum(parameter.detach().double().abs().sum() for parameter in parameters))
    if group.maximum(value) != -group.maximum(-value):
        raise RuntimeError("the ranks did not load the same weights")


def seed_step(seed: int, step: int, rank: int) -> None:
    """Make randomness (dropout) a function of seed, step and rank, so that a resumed run repeats
    it.
    """
    words = np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)
    torch.manual_seed(int(words[0]) >> 1)

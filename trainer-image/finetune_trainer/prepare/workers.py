"""Work on all granted CPUs: forked processes that share what the parent has loaded.

Processes, because most of the time goes into Python: templates, offsets, masks. Forked, because a
process that loads the libraries itself holds hundreds of MB. What the work is is not known here.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

# Each holds about 50 MB of its own: with more of them the stage would not stay below 1 GiB.
MOST_PROCESSES = 16
# Tasks that wait, a process: enough that none idles while the parent writes.
AHEAD = 3
PR_SET_PDEATHSIG = 1
# Of cgroup v2: microseconds of CPU time in each period, or max.
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")

Task = TypeVar("Task")
Result = TypeVar("Result")

_function: Callable[[Any], Any]


def granted_cpus(quota: Path = CPU_QUOTA) -> int:
    """Whole CPUs granted to the container, not the host's: at least 1."""
    if told := os.environ.get("FINETUNE_CPUS"):
        return int(told)
    cpus = len(os.sched_getaffinity(0))
    try:
        time, period = quota.read_text().split()
    except (OSError, ValueError):
        return cpus
    return cpus if time == "max" else max(1, min(cpus, int(time) // int(period)))


def ordered_map(
    function: Callable[[Task], Result], tasks: Iterable[Task], processes: int
) -> Iterator[Result]:
    """`function` of every task, in the order of the tasks, by as many processes.

    The tasks are taken as results are consumed, so memory does not grow with their number. With
    one process, or one task, `function` is called here; there are `MOST_PROCESSES` at most.

    Raises:
        MemoryError: a process was killed, which is how Linux ends one that has no memory.
        Exception: what `function` raised, for the first task that it failed on.
    """
    processes = min(processes, MOST_PROCESSES)
    waiting = iter(tasks)
    first = list(islice(waiting, 2))
    if processes < 2 or len(first) < 2:
        yield from map(function, first)
        yield from map(function, waiting)
        return
    # Else the first collection in a child would copy every page that the parent has.
    gc.collect()
    gc.freeze()
    executor = ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("fork"),
        initializer=_start,
        initargs=(function, os.getpid()),
    )
    try:
        pending: deque[Future[Result]] = deque(executor.submit(_call, task) for task in first)
        while pending:
            for task in islice(waiting, AHEAD * processes - len(pending)):
                pending.append(executor.submit(_call, task))
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise MemoryError("a process of prepare was killed") from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        gc.unfreeze()


def end_with(parent: int) -> None:
    """Let this process end when its `parent` does, and at SIGTERM like any other."""
    # The parent's handler would record the end of the stage here.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _start(function: Callable[[Any], Any], parent: int) -> None:
    global _function
    _function = function
    end_with(parent)
    # The library's threads were not forked with it; waiting for them would never end.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _call(task: Any) -> Any:
    return _function(task)

"""One process per accelerator: starting them, passing SIGTERM on, and turning their ends into one.

It belongs here what a pod does around the recipe. torch is not imported: the parent stays small.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_trainer.outcome import Outcome, RetryableError, StageError, more_room, record_failure
from finetune_trainer.run import Run
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace, write_json

OUTCOME_FILE = "FINETUNE_OUTCOME_FILE"
POLL_SECONDS = 0.1
# After one process failed, the others get this long to end with an outcome of their own.
GRACE_SECONDS = 10.0

# When several processes fail, the first of these is why; the others lost a peer.
CAUSES = (
    Outcome.USER_ERROR,
    Outcome.NON_FINITE_LOSS,
    Outcome.OUT_OF_MEMORY,
    Outcome.PREEMPTED,
    Outcome.RETRYABLE,
)


@dataclass(frozen=True, slots=True)
class Pod:
    """This pod's place among the run's, from the contract's environment."""

    nodes: int
    node_rank: int
    processes: int
    master_addr: str
    master_port: int

    @classmethod
    def from_environment(cls) -> Pod:
        nodes = int(os.environ.get("FINETUNE_NODES", "1"))
        alone = nodes == 1
        return cls(
            nodes=nodes,
            node_rank=int(os.environ.get("FINETUNE_NODE_RANK", "0")),
            processes=int(os.environ.get("FINETUNE_PROCESSES_PER_NODE", "1")),
            master_addr="127.0.0.1" if alone else os.environ["FINETUNE_MASTER_ADDR"],
            master_port=_free_port() if alone else int(os.environ["FINETUNE_MASTER_PORT"]),
        )

    @property
    def world_size(self) -> int:
        return self.nodes * self.processes

    def process_environment(self, local_rank: int) -> dict[str, str]:
        """torch's variables for one process of this pod."""
        environment = {
            "RANK": str(self.node_rank * self.processes + local_rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_RANK": str(local_rank),
            "LOCAL_WORLD_SIZE": str(self.processes),
            "MASTER_ADDR": self.master_addr,
            "MASTER_PORT": str(self.master_port),
        }
        cpus = int(os.environ.get("FINETUNE_CPUS") or len(os.sched_getaffinity(0)))
        environment["OMP_NUM_THREADS"] = str(max(1, cpus // self.processes))
        if self.nodes == 1 and self.processes > 1:
            environment["GLOO_SOCKET_IFNAME"] = "lo"
        return environment


def stage(run: Run, workspace: Workspace) -> tuple[str, dict[str, Any]]:
    """Train, in this process or in several; see `recipe.train` for what it returns and raises."""
    stop = Stop().install()
    done = finished_result(run, workspace)
    if done is not None:
        return "Training had already been done.", done
    pod = Pod.from_environment()
    os.environ.update(_scratch_environment())
    if pod.processes > 1:
        return run_processes(pod, stop)
    os.environ.update(pod.process_environment(0))
    from finetune_trainer.train.recipe import train  # torch takes seconds to import

    return train(run, workspace, stop)


def finished_result(run: Run, workspace: Workspace) -> dict[str, Any] | None:
    """The result of an earlier attempt that trained this very plan to its end, else None."""
    output = workspace.adapter if run.method.makes_adapter else workspace.merged
    if not output.is_dir() or not workspace.plan_hash.exists():
        return None
    if workspace.plan_hash.read_text().strip() != run.plan_hash:
        return None
    return workspace.read_result("train")


def run_processes(pod: Pod, stop: Stop) -> tuple[str, dict[str, Any]]:
    """Run one worker per accelerator of this pod and wait for all.

    Raises:
        StageError: with the outcome and message of the worker that failed first for a reason of its
            own.
    """
    stop.defer()
    with tempfile.TemporaryDirectory() as scratch:
        files = [Path(scratch) / f"{rank}.json" for rank in range(pod.processes)]
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", "finetune_trainer.train.worker"],
                env={
                    **os.environ,
                    **pod.process_environment(rank),
                    OUTCOME_FILE: str(files[rank]),
                },
            )
            for rank in range(pod.processes)
        ]
        try:
            killed = _wait(workers, stop)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        documents = [
            _read_outcome(file, worker.returncode, stop)
            for rank, (file, worker) in enumerate(zip(files, workers, strict=True))
            if rank not in killed
        ]
    # Whoever found out why the run stands still knows more than those that lost a peer by that.
    documents.sort(key=lambda document: not document.get("foremost", False))
    for cause in CAUSES:
        for document in documents:
            if document["outcome"] == cause:
                error = StageError(document["message"])
                error.outcome = cause
                raise error
    return documents[0]["message"], documents[0]["result"]


def end_now(error: StageError) -> None:
    """End this process at once, whatever its other threads do, with the outcome of `error`."""
    # Should the workspace hang as well: what must be said is said in a moment or not at all.
    faulthandler.dump_traceback_later(GRACE_SECONDS, exit=True, file=2)
    file = os.environ.get(OUTCOME_FILE)
    if file:
        document = {"outcome": int(error.outcome), "message": str(error), "result": {}}
        write_json(Path(file), {**document, "foremost": True})
    else:
        record_failure("train", error, Workspace.from_environment())
    os._exit(int(error.outcome))


def _wait(workers: list[subprocess.Popen[bytes]], stop: Stop) -> set[int]:
    """Wait for all workers; those that outlive a failed one by too much are killed and returned."""
    deadline: float | None = None
    forwarded = False
    # All are asked, or one that lives on would hide the end of those after it.
    while None in [worker.poll() for worker in workers]:
        if stop.requested and not forwarded:
            forwarded = True
            for worker in workers:
                worker.terminate()
        if deadline is None and any(worker.returncode for worker in workers):
            deadline = time.monotonic() + GRACE_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            alive = {rank for rank, worker in enumerate(workers) if worker.poll() is None}
            for rank in alive:
                workers[rank].kill()
            return alive
        time.sleep(POLL_SECONDS)
    return set()


def _read_outcome(file: Path, returncode: int, stop: Stop) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(file.read_bytes())
    except FileNotFoundError:
        if returncode == -signal.SIGKILL:
            # Only the kernel's memory killer does that to a worker that nobody here killed.
            message = (
                "A training process was killed (signal 9), most likely for want of memory: "
                f"{more_room('train')}."
            )
            return {"outcome": Outcome.OUT_OF_MEMORY, "message": message, "result": {}}
        if returncode == -signal.SIGTERM and stop.requested:
            # It was so young that it did not listen for the signal yet.
            message = "Stopped before the first step."
            return {"outcome": Outcome.PREEMPTED, "message": message, "result": {}}
        message = f"A training process ended without a word (exit code {returncode})."
        return {"outcome": RetryableError.outcome, "message": message, "result": {}}
    return {**document, "outcome": Outcome(document["outcome"])}


def _scratch_environment() -> dict[str, str]:
    """What torch must be told when the user has no passwd entry and no home directory."""
    return {
        "TORCHINDUCTOR_CACHE_DIR": os.environ.get(
            "TORCHINDUCTOR_CACHE_DIR", f"{tempfile.gettempdir()}/torchinductor"
        ),
        "USER": os.environ.get("USER", "finetune"),
    }


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

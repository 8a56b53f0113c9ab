"""The logs of a run, followed: on from pod to pod, and from where a connection broke off, until the
run has ended. What becomes of a line is the caller's matter.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from finetune_cli import refused
from finetune_cli.cluster import PATIENCE_SECONDS, Cluster
from finetune_cli.errors import CliError, Exit
from finetune_cli.podlogs import PodLog, pod_logs
from finetune_cli.view import Run

PAUSE_SECONDS = 2.0
_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\S+$")
Line = Callable[[PodLog, str, str], None]
Trouble = Callable[[PodLog, CliError], None]


class _Patience:
    """How long a cluster that does not answer is waited for."""

    def __init__(self) -> None:
        self._lost_at: float | None = None

    def forget(self) -> None:
        self._lost_at = None

    def ends(self, error: CliError) -> bool:
        """Whether to give up at this error: at once when waiting cannot help."""
        now = time.monotonic()
        self._lost_at = self._lost_at or now
        return error.code != Exit.NO_CLUSTER or now > self._lost_at + PATIENCE_SECONDS


class Reader:
    """The log of one pod, each line once, however often it has to be asked for."""

    def __init__(
        self, cluster: Cluster, query: Mapping[str, Any], put: Line, trouble: Trouble
    ) -> None:
        """`put` gets the line's time and the line, `trouble` why it cannot be read any further."""
        self.complete = False
        self._cluster = cluster
        self._query = dict(query)
        self._put = put
        self._trouble = trouble
        self._patience = _Patience()
        self._last = ""
        self._thread: threading.Thread | None = None

    def go_on(self, log: PodLog) -> None:
        """See to it that it is read as it now is; what is over is read to its end before this
        returns.
        """
        if self._thread is not None and self._thread.is_alive():
            return
        if not self.complete:
            self._thread = threading.Thread(target=self.read, args=(log,), daemon=True)
            self._thread.start()
            if log.ended:
                self._thread.join()

    def join(self) -> None:
        """Wait until what there is now has been read."""
        if self._thread is not None:
            self._thread.join()

    def read(self, log: PodLog) -> None:
        """Read on to the end of the log, or to where the connection breaks off."""
        try:
            self._read(log)
        except refused.Missing:
            self.complete = True  # the pod was deleted: it says no more
            return
        except CliError as error:
            if self._patience.ends(error):
                self._trouble(log, error)
                self.complete = True
            return
        self._patience.forget()
        # Of a pod that has not ended a stream may have: its end is only where it has to be.
        self.complete = log.ended

    def _read(self, log: PodLog) -> None:
        query: dict[str, Any] = {**self._query, "timestamps": "true"}
        if not log.ended:
            query["follow"] = "true"
        before = self._last
        if before:
            query.pop("tailLines", None)
            query["sinceTime"] = before
        for line in self._cluster.log_lines(log.pod, query):
            moment, _, text = line.partition(" ")
            if not _TIME.match(moment):
                self._put(log, "", line)  # not of the container: what the kubelet says itself
            elif moment > before:
                self._last = moment
                self._put(log, moment, text)


def follow(
    cluster: Cluster,
    name: str,
    wanted: Mapping[str, Any],
    reader: Callable[[], Reader],
) -> None:
    """Read the logs of a run's pods until it has ended; `wanted` as `pod_logs` takes it.

    Raises:
        CliError: the run cannot be asked for any more.
    """
    readers: dict[str, Reader] = {}
    patience = _Patience()
    while True:
        try:
            over = Run(cluster.run(name)).is_over
            logs = [log for log in pod_logs(cluster.pods(name), **wanted) if log.has_log]
        except CliError as error:
            if patience.ends(error):
                raise
            time.sleep(PAUSE_SECONDS)
            continue
        patience.forget()
        for log in logs:
            readers.setdefault(log.pod, reader()).go_on(log)
        if over:
            for log in logs:
                readers[log.pod].join()
            if all(readers[log.pod].complete for log in logs):
                return
        time.sleep(PAUSE_SECONDS)

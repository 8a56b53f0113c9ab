"""`logs`: of all stages, attempts and ranks, prefixed; followed from one pod to the next."""

from __future__ import annotations

import sys
import threading
import time
import zlib
from typing import Any

import click
from rich.text import Text

from finetune_cli.cluster import Cluster
from finetune_cli.errors import CliError
from finetune_cli.names import run_names
from finetune_cli.options import Target, target_options
from finetune_cli.podlogs import PodLog, pod_logs
from finetune_cli.show.screen import console
from finetune_cli.view import Run
from finetune_operator.vocabulary import Stage

_PAUSE = 2.0
_COLOURS = ("cyan", "green", "magenta", "blue", "yellow", "bright_cyan", "bright_green")


@click.command("logs")
@run_names()
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
@click.option("--stage", type=click.Choice([str(s) for s in Stage]), help="Of this stage only.")
@click.option("--attempt", type=click.IntRange(min=1), help="Of this attempt only.")
@click.option("--rank", type=click.IntRange(min=0), help="Of this node's pod only.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="The last N lines of each.")
@click.option("--timestamps", is_flag=True, help="With the time of each line.")
@target_options
def command(
    name: str,
    follow: bool,
    stage: str | None,
    attempt: int | None,
    rank: int | None,
    tail: int | None,
    timestamps: bool,
    target: Target,
) -> None:
    """Print the logs of the run NAME: all that its pods still have, in the order of its stages."""
    cluster = Cluster.connect(target)
    cluster.run(name)
    query: dict[str, Any] = {"timestamps": "true"} if timestamps else {}
    if tail is not None:
        query["tailLines"] = tail
    wanted: dict[str, Any] = {"stage": stage, "attempt": attempt, "rank": rank}
    printer = _Printer(cluster, query)
    if follow:
        _follow(cluster, name, wanted, printer)
        return
    found = [log for log in pod_logs(cluster.pods(name), **wanted) if log.has_log]
    if not found:
        raise CliError(
            f"No pod of FineTuneJob {name} has a log yet: `kubectl finetune status {name}` tells "
            "what it waits for."
        )
    for log in found:
        printer.print(log)


def _follow(cluster: Cluster, name: str, wanted: dict[str, Any], printer: _Printer) -> None:
    """A thread for each pod that has begun, until the run has ended and all is printed."""
    threads: dict[str, threading.Thread] = {}
    while True:
        over = Run(cluster.run(name)).is_over
        for log in pod_logs(cluster.pods(name), **wanted):
            if log.has_log and log.pod not in threads:
                thread = threading.Thread(
                    target=printer.print, args=(log,), kwargs={"follow": True}, daemon=True
                )
                threads[log.pod] = thread
                thread.start()
                if log.ended:
                    # What is over comes whole before what goes on.
                    thread.join()
        if over:
            for thread in threads.values():
                thread.join()
            return
        time.sleep(_PAUSE)


class _Printer:
    """Lines of several pods on one screen: whole lines, each with its prefix."""

    def __init__(self, cluster: Cluster, query: dict[str, Any]) -> None:
        self._cluster = cluster
        self._query = query
        self._screen = console()
        self._lock = threading.Lock()

    def print(self, log: PodLog, *, follow: bool = False) -> None:
        """The log of one pod to its end; why it cannot be read is told in its place."""
        query = {**self._query, "follow": "true"} if follow and not log.ended else self._query
        try:
            for line in self._cluster.log_lines(log.pod, query):
                self._put(log, line)
        except CliError as error:
            if not follow:
                raise
            print(f"{log.prefix}: {error.message}", file=sys.stderr, flush=True)

    def _put(self, log: PodLog, line: str) -> None:
        with self._lock:
            if not self._screen.is_terminal:
                print(f"{log.prefix} | {line}", flush=True)
                return
            colour = _COLOURS[zlib.crc32(log.prefix.encode()) % len(_COLOURS)]
            prefix = Text(f"{log.prefix} | ", style=colour)
            # A trainer's own colours (the preview of labels) come through.
            self._screen.print(prefix.append_text(Text.from_ansi(line)), soft_wrap=True)

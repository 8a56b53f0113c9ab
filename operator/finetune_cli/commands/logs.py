"""`logs`: of all stages, attempts and ranks, prefixed; followed from one pod to the next."""

from __future__ import annotations

import sys
import threading
import zlib
from typing import Any

import click
from rich.text import Text

from finetune_cli.cluster import Cluster
from finetune_cli.errors import CliError
from finetune_cli.following import Reader, follow
from finetune_cli.harmless import harmless
from finetune_cli.names import run_names
from finetune_cli.options import Target, target_options
from finetune_cli.podlogs import PodLog, pod_logs
from finetune_cli.show.screen import console
from finetune_operator.vocabulary import Stage

_COLOURS = ("cyan", "green", "magenta", "blue", "yellow", "bright_cyan", "bright_green")


@click.command("logs")
@run_names()
@click.option("-f", "--follow", "follows", is_flag=True, help="Go on until the run has ended.")
@click.option("--stage", type=click.Choice([str(s) for s in Stage]), help="Of this stage only.")
@click.option("--attempt", type=click.IntRange(min=1), help="Of this attempt only.")
@click.option("--rank", type=click.IntRange(min=0), help="Of this node's pod only.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="The last N lines of each.")
@click.option("--timestamps", is_flag=True, help="With the time of each line.")
@target_options
def command(
    name: str,
    follows: bool,
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
    query = {} if tail is None else {"tailLines": tail}
    wanted: dict[str, Any] = {"stage": stage, "attempt": attempt, "rank": rank}
    printer = _Printer(timestamps=timestamps)
    if follows:
        follow(cluster, name, wanted, lambda: Reader(cluster, query, printer.put, printer.trouble))
        return
    found = [log for log in pod_logs(cluster.pods(name), **wanted) if log.has_log]
    if not found:
        if stage or attempt or rank is not None:
            raise CliError(
                f"No pod of FineTuneJob {name} has such a log. A suspended run's pods take theirs "
                f"with them; {target.advice('logs', name)} prints what there is."
            )
        raise CliError(
            f"No pod of FineTuneJob {name} has a log yet: {target.advice('status', name)} tells "
            "what it waits for."
        )
    stamped = {**query, "timestamps": "true"} if timestamps else query
    for log in found:
        for line in cluster.log_lines(log.pod, stamped):
            printer.put(log, "", line)


class _Printer:
    """Lines of several pods on one screen: whole lines, each with its prefix."""

    def __init__(self, *, timestamps: bool) -> None:
        self._timestamps = timestamps
        self._screen = console()
        self._lock = threading.Lock()

    def put(self, log: PodLog, moment: str, line: str) -> None:
        """Print one line of a pod's log."""
        if self._timestamps and moment:
            line = f"{moment} {line}"
        with self._lock:
            if not self._screen.is_terminal:
                print(f"{log.prefix} | {click.unstyle(line)}", flush=True)
                return
            colour = _COLOURS[zlib.crc32(log.prefix.encode()) % len(_COLOURS)]
            prefix = Text(f"{log.prefix} | ", style=colour)
            # A trainer's own colours (the preview of labels) come through, and nothing else.
            self._screen.print(prefix.append_text(Text.from_ansi(line)), soft_wrap=True)

    def trouble(self, log: PodLog, error: CliError) -> None:
        """Say why a log cannot be read any further."""
        print(f"{log.prefix}: {harmless(error.message)}", file=sys.stderr, flush=True)

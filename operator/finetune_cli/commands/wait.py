"""`wait`: until runs have ended; unlike `kubectl wait` it ends at once when one fails."""

from __future__ import annotations

import queue
import sys
import threading
import time

import click

from finetune_cli.cluster import Cluster
from finetune_cli.errors import CliError, Exit
from finetune_cli.names import run_names
from finetune_cli.options import Target, target_options
from finetune_cli.show.line import line
from finetune_cli.view import Run
from finetune_operator.vocabulary import Phase

# What is heard of a run: how it is now, or that and why nothing more will be heard.
News = Run | CliError


@click.command("wait")
@run_names(-1)
@click.option("--timeout", type=click.IntRange(min=1), metavar="SECONDS", help="Give up then.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing on the way.")
@target_options
def command(names: tuple[str, ...], timeout: int | None, quiet: bool, target: Target) -> int:
    """Wait until the runs NAME... have ended. Exit code 1 as soon as one has failed, 6 when time is
    up, 3 when one was deleted. A suspended run is waited for.
    """
    cluster = Cluster.connect(target)
    deadline = None if timeout is None else time.monotonic() + timeout
    latest = {name: Run(cluster.run(name)) for name in names}
    heard: queue.SimpleQueue[tuple[str, News]] = queue.SimpleQueue()
    for name in latest:
        threading.Thread(target=_listen, args=(cluster, name, heard), daemon=True).start()
    waiting, said = set(latest), dict.fromkeys(latest, "")
    while waiting:
        name, news = _next(heard, deadline, {name: latest[name] for name in waiting}, target)
        if isinstance(news, CliError):
            raise news
        latest[name] = news
        if news.is_over:
            waiting.discard(name)
            print(line(news), flush=True)
            if news.phase == Phase.FAILED:
                return Exit.BAD
        elif not quiet and line(news) != said[name]:
            said[name] = line(news)
            print(said[name], file=sys.stderr, flush=True)
    return Exit.OK


def _listen(cluster: Cluster, name: str, heard: queue.SimpleQueue[tuple[str, News]]) -> None:
    try:
        for raw in cluster.follow(name):
            run = Run(raw)
            heard.put((name, run))
            if run.is_over:
                return
    except CliError as error:
        heard.put((name, error))
        return
    deleted = CliError(f'FineTuneJob "{name}" was deleted meanwhile.', Exit.NOT_FOUND)
    heard.put((name, deleted))


def _next(
    heard: queue.SimpleQueue[tuple[str, News]],
    deadline: float | None,
    waiting: dict[str, Run],
    target: Target,
) -> tuple[str, News]:
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    try:
        return heard.get(timeout=left)
    except queue.Empty:
        name, run = next(iter(waiting.items()))
        raise CliError(
            f'Time is up and FineTuneJob "{name}" is {run.phase}: '
            f"{target.advice('status', name)} tells what it does.",
            Exit.TIMEOUT,
        ) from None

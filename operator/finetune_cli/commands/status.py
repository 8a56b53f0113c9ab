"""`status`: how one run stands, once or live."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import click
from rich.live import Live

from finetune_cli.cluster import Cluster
from finetune_cli.errors import CliError, Exit
from finetune_cli.history import History
from finetune_cli.names import run_names
from finetune_cli.options import Target, output_option, target_options
from finetune_cli.output import emit
from finetune_cli.podlogs import training_pods
from finetune_cli.show.line import line
from finetune_cli.show.screen import console, show
from finetune_cli.show.status import StatusView
from finetune_cli.view import Run, dig


@click.command("status")
@run_names()
@click.option("-w", "--watch", is_flag=True, help="Go on until the run has ended.")
@output_option("json", "yaml", "wide")
@target_options
def command(name: str, watch: bool, output: str | None, target: Target) -> None:
    """Show stages, progress, loss curve, time left, and what the run NAME waits for.

    The curve is read from the logs of the training pods, as far as they are there and you may read
    them. -o wide adds the conditions.
    """
    cluster = Cluster.connect(target)
    if output in ("json", "yaml"):
        emit(cluster.run(name), output)
        return
    run = Run(cluster.run(name))
    history = _history(cluster, name)
    if watch:
        _watch(cluster, name, history, wide=output == "wide")
        return
    _add_latest(history, run)
    show(StatusView(run, history, datetime.now(UTC), wide=output == "wide"))


def _watch(cluster: Cluster, name: str, history: History, *, wide: bool) -> None:
    screen = console()
    if not screen.is_terminal:
        _print_changes(cluster, name)
        return
    run = Run({})

    def drawn() -> StatusView:
        height = screen.size.height
        return StatusView(run, history, datetime.now(UTC), wide=wide, height=height)

    with Live(
        console=screen, get_renderable=drawn, refresh_per_second=2, vertical_overflow="crop"
    ) as shown:
        for raw in cluster.follow(name):
            run = Run(raw)
            _add_latest(history, run)
            shown.refresh()
            if run.is_over:
                return
    raise CliError(f'FineTuneJob "{name}" was deleted meanwhile.', Exit.NOT_FOUND)


def _print_changes(cluster: Cluster, name: str) -> None:
    said = ""
    for raw in cluster.follow(name):
        run = Run(raw)
        if (text := line(run)) != said:
            said = text
            print(text, flush=True)
        if run.is_over:
            return
    raise CliError(f'FineTuneJob "{name}" was deleted meanwhile.', Exit.NOT_FOUND)


def _history(cluster: Cluster, name: str) -> History:
    """The losses that the training pods have logged; what may not be read is done without."""
    history = History()
    with contextlib.suppress(CliError):
        for pod in training_pods(cluster.pods(name)):
            history.read(cluster.log_lines(pod, {}))
    return history


def _add_latest(history: History, run: Run) -> None:
    history.add(dig(run.status, "progress.step"), run.metrics.get("loss"))

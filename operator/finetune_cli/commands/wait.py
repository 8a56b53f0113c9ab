"""`wait`: until runs have ended; unlike `kubectl wait` it ends at once when one fails."""

from __future__ import annotations

import sys
import time

import click

from finetune_cli.cluster import Cluster
from finetune_cli.errors import CliError, Exit
from finetune_cli.names import run_names
from finetune_cli.options import Target, target_options
from finetune_cli.show.line import line
from finetune_cli.view import Run
from finetune_operator.vocabulary import Phase


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
    for name in names:
        cluster.run(name)
    for name in names:
        run = _ended(cluster, name, deadline, quiet=quiet)
        print(line(run))
        if run.phase == Phase.FAILED:
            return Exit.BAD
    return Exit.OK


def _ended(cluster: Cluster, name: str, deadline: float | None, *, quiet: bool) -> Run:
    said, phase = "", str(Phase.PENDING)
    for raw in cluster.follow(name, deadline):
        run = Run(raw)
        phase = run.phase
        if run.is_over:
            return run
        if not quiet and (text := line(run)) != said:
            said = text
            print(text, file=sys.stderr, flush=True)
    if deadline is not None and time.monotonic() >= deadline:
        raise CliError(
            f'Time is up and FineTuneJob "{name}" is {phase}: `kubectl finetune status {name}` '
            "tells what it does.",
            Exit.TIMEOUT,
        )
    raise CliError(f'FineTuneJob "{name}" was deleted meanwhile.', Exit.NOT_FOUND)

"""`stop`: suspend, and wait until its Jobs are gone and the GPUs free.

The operator knows one way to end what runs without losing it, spec.suspend; to throw a run away,
delete it.
"""

from __future__ import annotations

import time

import click

from finetune_cli.cluster import Cluster
from finetune_cli.commands.suspend import suspended
from finetune_cli.errors import CliError, Exit
from finetune_cli.harmless import harmless
from finetune_cli.names import run_names
from finetune_cli.options import Target, target_options
from finetune_cli.view import Run, dig
from finetune_operator.vocabulary import Phase

_PAUSE = 1.0


@click.command("stop")
@run_names()
@click.option(
    "--timeout",
    type=click.IntRange(min=1),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="Give up waiting then; the run stays suspended.",
)
@target_options
def command(name: str, timeout: int, target: Target) -> None:
    """Save a checkpoint of the run NAME, stop it, and wait until nothing of it runs any more."""
    cluster = Cluster.connect(target)
    deadline = time.monotonic() + timeout
    suspended(cluster, name)
    for raw in cluster.follow(name, deadline):
        run = Run(raw)
        if run.is_over:
            raise CliError(f"FineTuneJob {name} ended before it stopped: it is {run.phase}.")
        if run.phase == Phase.SUSPENDED and run.is_seen and _gone(cluster, name, deadline):
            step = dig(cluster.run(name), "status.progress.display.step")
            at = f" at step {harmless(step)}" if step else ""
            print(f"FineTuneJob {name} is stopped{at}; {target.advice('resume', name)} goes on.")
            return
    raise CliError(
        f"Something of FineTuneJob {name} still runs after {timeout} s; it is suspended and ends "
        f"by itself: `kubectl get jobs -l finetune.dev/run={name}`.",
        Exit.TIMEOUT,
    )


def _gone(cluster: Cluster, name: str, deadline: float) -> bool:
    while time.monotonic() < deadline:
        if not any(dig(job, "status.active", 0) for job in cluster.jobs(name)):
            return True
        time.sleep(_PAUSE)
    return False

"""`suspend`: ask the operator, by spec.suspend, to save a checkpoint and free the GPUs."""

from __future__ import annotations

import click

from finetune_cli.cluster import Cluster
from finetune_cli.errors import CliError
from finetune_cli.names import run_names
from finetune_cli.options import Target, target_options
from finetune_cli.view import Run


@click.command("suspend")
@run_names(-1)
@target_options
def command(names: tuple[str, ...], target: Target) -> None:
    """Suspend the runs NAME...: training saves a checkpoint, pods go, nothing is lost."""
    cluster = Cluster.connect(target)
    for name in names:
        suspended(cluster, name)
        print(f"FineTuneJob {name} is being suspended; {target.advice('resume', name)} goes on.")


def suspended(cluster: Cluster, name: str) -> None:
    """Ask for it, unless there is nothing to suspend."""
    run = Run(cluster.run(name))
    if run.is_over:
        raise CliError(f"FineTuneJob {name} has ended ({run.phase}): there is nothing to suspend.")
    cluster.change(name, {"suspend": True})

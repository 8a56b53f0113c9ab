"""`resume`: take spec.suspend back."""

from __future__ import annotations

import click

from finetune_cli.cluster import Cluster
from finetune_cli.errors import CliError
from finetune_cli.names import run_names
from finetune_cli.options import Target, target_options
from finetune_cli.view import Run, dig
from finetune_operator.vocabulary import Phase


@click.command("resume")
@run_names(-1)
@target_options
def command(names: tuple[str, ...], target: Target) -> None:
    """Go on with the suspended runs NAME..., training from its last checkpoint."""
    cluster = Cluster.connect(target)
    for name in names:
        run = Run(cluster.run(name))
        if not dig(run.raw, "spec.suspend", False):
            hint = f": {target.advice('rerun', name)} goes on" if run.phase == Phase.FAILED else ""
            raise CliError(f"FineTuneJob {name} is not suspended, it is {run.phase}{hint}.")
        # false, not removed: whoever applies the file again that said true would suspend it again.
        cluster.change(name, {"suspend": False})
        print(f"FineTuneJob {name} goes on.")

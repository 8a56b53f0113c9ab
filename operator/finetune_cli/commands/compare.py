"""`compare`: settings and results of several runs side by side."""

from __future__ import annotations

import click

from finetune_cli import comparison
from finetune_cli.cluster import Cluster
from finetune_cli.errors import CliError, Exit
from finetune_cli.names import run_names
from finetune_cli.options import Target, output_option, target_options
from finetune_cli.output import emit
from finetune_cli.show.compare import view
from finetune_cli.show.screen import show
from finetune_cli.view import Run


@click.command("compare")
@run_names(-1)
@click.option("--all", "everything", is_flag=True, help="Also settings that are the same.")
@output_option("json", "yaml")
@target_options
def command(names: tuple[str, ...], everything: bool, output: str | None, target: Target) -> None:
    """Show in which settings the runs NAME... differ, and their results."""
    if len(names) < 2:
        raise CliError("compare needs two runs or more: name another one.", Exit.USAGE)
    cluster = Cluster.connect(target)
    runs = [Run(cluster.run(name)) for name in names]
    if not output:
        show(view(runs, everything=everything))
        return
    settings = [row for row in comparison.settings(runs) if everything or row.differs]
    emit(
        {
            "runs": list(names),
            "settings": {row.name: list(row.values) for row in settings},
            "results": {row.name: list(row.values) for row in comparison.results(runs)},
        },
        output,
    )

"""`report`: the page about a run, from beside its model on the Hub or from its workspace."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from finetune_cli import workspace
from finetune_cli.cluster import Cluster
from finetune_cli.errors import CliError
from finetune_cli.harmless import harmless
from finetune_cli.names import run_names
from finetune_cli.options import Target, target_options
from finetune_cli.published import address, fetch, is_published, only_shown
from finetune_cli.view import Run


@click.command("report")
@run_names()
@click.option("--url", "only_url", is_flag=True, help="Print where on the Hub it is.")
@click.option(
    "--workspace", "whole", is_flag=True, help="The one in the workspace, also of a published run."
)
@click.option("--file", metavar="FILE", help="Where to write it. Default: NAME.html.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@target_options
def command(
    name: str, only_url: bool, whole: bool, file: str | None, force: bool, target: Target
) -> None:
    """Fetch the report of the run NAME: one page that needs no network.

    From the Hub, of a private repository with the token in HF_TOKEN; of a run that has published
    nothing, or with --workspace, from the workspace, by a pod that prints it. Only that one shows
    text of the data and answers.
    """
    cluster = Cluster.connect(target)
    run = Run(cluster.run(name))
    if only_url:
        print(harmless(address(run)))
        return
    path = Path(file or f"{name}.html")
    if path.exists() and not force:
        raise CliError(f"{path} exists: name another --file, or say --force.")
    content = _fetched(cluster, run, whole=whole)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror}.") from None
    print(f"{path} is written: open it in a browser.")


def _fetched(cluster: Cluster, run: Run, *, whole: bool) -> bytes:
    if is_published(run) and not whole:
        return fetch(address(run))
    print("A pod reads it from the workspace.", file=sys.stderr)
    return only_shown(workspace.report(cluster, run).encode(), f"the workspace of {run.name}")

"""`report`: the page about a run that lies beside its model on the Hub."""

from __future__ import annotations

from pathlib import Path

import click

from finetune_cli.cluster import Cluster
from finetune_cli.errors import CliError
from finetune_cli.names import run_names
from finetune_cli.options import Target, target_options
from finetune_cli.published import address, fetch
from finetune_cli.view import Run


@click.command("report")
@run_names()
@click.option("--url", "only_url", is_flag=True, help="Print where it is, and fetch nothing.")
@click.option("--file", metavar="FILE", help="Where to write it. Default: NAME.html.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@target_options
def command(name: str, only_url: bool, file: str | None, force: bool, target: Target) -> None:
    """Fetch the report of the run NAME from the Hub: one page that needs no network.

    Of a private repository with the token in HF_TOKEN. A run that publishes nothing keeps its
    report in the workspace.
    """
    url = address(Run(Cluster.connect(target).run(name)))
    if only_url:
        print(url)
        return
    path = Path(file or f"{name}.html")
    if path.exists() and not force:
        raise CliError(f"{path} exists: name another --file, or say --force.")
    content = fetch(url)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror}.") from None
    print(f"{path} is written: open it in a browser.")

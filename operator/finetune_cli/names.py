"""The argument NAME: runs, completed from the cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from finetune_cli.cluster import Cluster
from finetune_cli.errors import CliError
from finetune_cli.options import Target

F = TypeVar("F", bound=Callable[..., Any])
PATIENCE_SECONDS = 2.0


def run_names(nargs: int = 1, *, required: bool = True) -> Callable[[F], F]:
    """The runs that a command is about, completed from the cluster."""
    name = "name" if nargs == 1 else "names"
    return click.argument(
        name,
        nargs=nargs,
        required=required,
        metavar="NAME" + ("..." if nargs != 1 else ""),
        shell_complete=_names,
    )


def _names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    given = ctx.params
    try:
        cluster = Cluster.connect(
            Target(given.get("namespace"), given.get("context"), given.get("kubeconfig"))
        )
        runs = cluster.runs(seconds=PATIENCE_SECONDS)
    except CliError:
        return []  # a completion never fails aloud
    names = (str(run["metadata"]["name"]) for run in runs)
    return [name for name in names if name.startswith(incomplete)]

"""`list`: runs, one line each."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import click

from finetune_cli.cluster import Cluster
from finetune_cli.options import Target, output_option, target_options
from finetune_cli.output import emit
from finetune_cli.show.runs import table
from finetune_cli.show.screen import show
from finetune_cli.view import Run


@click.command("list")
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Of all namespaces.")
@click.option("-l", "--selector", metavar="LABELS", help="Only runs with these labels.")
@output_option("wide", "json", "yaml", "name")
@target_options
def command(everywhere: bool, selector: str | None, output: str | None, target: Target) -> None:
    """List runs. A "!" after the phase: something holds the run up, which `status` tells."""
    cluster = Cluster.connect(target)
    found = cluster.runs(everywhere=everywhere, selector=selector)
    if output in ("json", "yaml"):
        emit({"apiVersion": "v1", "kind": "List", "items": found}, output)
        return
    runs = [Run(item) for item in found]
    if output == "name":
        for run in runs:
            print(f"finetunejob.finetune.dev/{run.name}")
        return
    if not runs:
        where = "in any namespace" if everywhere else f"in namespace {cluster.namespace}"
        others = "" if everywhere else ", and -A lists those of all namespaces"
        print(
            f"No FineTuneJobs {where}: `kubectl finetune init` writes one{others}.", file=sys.stderr
        )
        return
    show(table(runs, datetime.now(UTC), wide=output == "wide", namespaces=everywhere))

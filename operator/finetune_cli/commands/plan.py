"""`plan`: what will run. Of a file without a cluster; of a run with what prepare has found out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from finetune_cli.cluster import Cluster
from finetune_cli.files import STDIN
from finetune_cli.given import finetunejob
from finetune_cli.options import Target, output_option, target_options
from finetune_cli.output import emit
from finetune_cli.preview import preview
from finetune_cli.show.plan import view
from finetune_cli.show.screen import show
from finetune_cli.view import Run
from finetune_operator.build.plan import plan_of
from finetune_operator.core.model import Plan
from finetune_operator.core.naming import plan_name

Found = tuple[dict[str, Any], Run | None, Plan | None]


@click.command("plan")
@click.argument("what", metavar="FILE|NAME")
@click.option("--all", "everything", is_flag=True, help="All settings, not only derived ones.")
@output_option("json", "yaml")
@target_options
def command(what: str, everything: bool, output: str | None, target: Target) -> None:
    """Show what will run for the FineTuneJob in FILE ("-": standard input; needs no cluster), or
    what runs for the run NAME.
    """
    if what == STDIN or Path(what).exists() or what.endswith((".yaml", ".yml", ".json")):
        document, run, plan = finetunejob(what), None, None
    else:
        document, run, plan = _from_cluster(what, target)
    found = preview(document, target.namespace or "default", plan)
    if output:
        emit(
            {
                "planHash": found.hash,
                "run": {k: v for k, v in found.plan.run.items() if k != "planHash"},
                "derived": found.derived,
                "jobs": [
                    {"stage": j.stage, "name": j.name, "pods": j.pods, "resources": dict(j.asks)}
                    for j in found.jobs
                ],
            },
            output,
        )
        return
    show(view(found, run, everything=everything))


def _from_cluster(name: str, target: Target) -> Found:
    cluster = Cluster.connect(target)
    document = cluster.run(name)
    run = Run(document)
    plan_hash = run.status.get("planHash")
    pinned = cluster.config_map(plan_name(name, plan_hash)) if plan_hash else None
    return document, run, plan_of(pinned) if pinned else None

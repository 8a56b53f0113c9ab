"""`checkpoint`: ask training, by an annotation, to save now and go on."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from finetune_cli.cluster import Cluster
from finetune_cli.errors import CliError
from finetune_cli.names import run_names
from finetune_cli.options import Target, target_options
from finetune_cli.view import Run
from finetune_operator.vocabulary import ANNOTATION_CHECKPOINT, Phase


@click.command("checkpoint")
@run_names()
@target_options
def command(name: str, target: Target) -> None:
    """Have the run NAME save a checkpoint after the step that it is in, and go on."""
    cluster = Cluster.connect(target)
    run = Run(cluster.run(name))
    if run.phase != Phase.TRAINING:
        raise CliError(
            f"FineTuneJob {name} does not train, it is {run.phase}: there is nothing to save."
        )
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    cluster.annotate(name, {ANNOTATION_CHECKPOINT: now})
    print(
        f"FineTuneJob {name} is asked for a checkpoint ({now}); {target.advice('status', name)} "
        "shows the step of the newest."
    )

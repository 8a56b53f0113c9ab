"""`rerun`: a new spec.rerunToken, which is how the operator is asked to do it again."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import click

from finetune_cli.cluster import Cluster
from finetune_cli.errors import CliError
from finetune_cli.names import run_names
from finetune_cli.options import Target, target_options
from finetune_cli.view import Run, dig
from finetune_operator.vocabulary import Phase


@click.command("rerun")
@run_names()
@click.option("--token", help="The new spec.rerunToken. Default: the time.")
@click.option("-y", "--yes", is_flag=True, help="Do a finished run over without asking.")
@target_options
def command(name: str, token: str | None, yes: bool, target: Target) -> None:
    """Go on with the failed run NAME from the stage that failed, or do a finished one again.

    For a run that is kept in Git, change spec.rerunToken there instead. To correct a field that is
    fixed after start, change it together with spec.rerunToken (`kubectl edit ftj NAME`).
    """
    cluster = Cluster.connect(target)
    run = Run(cluster.run(name))
    former = dig(run.raw, "spec.rerunToken")
    token = token or datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    if token == former:
        raise CliError(f"spec.rerunToken of {name} is {token} already: give another --token.")
    if run.phase == Phase.SUCCEEDED and not yes:
        if not sys.stdin.isatty():
            raise CliError(f"FineTuneJob {name} has succeeded: say --yes to do all of it again.")
        click.confirm(f"{name} has succeeded. Do all of it again?", abort=True, err=True)
    if run.phase not in (Phase.SUCCEEDED, Phase.FAILED):
        raise CliError(
            f"FineTuneJob {name} has not ended, it is {run.phase}: there is nothing to do again."
        )
    cluster.change(name, {"rerunToken": token})
    how = "starts over" if run.phase == Phase.SUCCEEDED else "goes on from the stage that failed"
    print(f"FineTuneJob {name} {how} (spec.rerunToken {token}).")

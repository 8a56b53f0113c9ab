"""`validate`: files as the API server would judge them, without one."""

from __future__ import annotations

import sys

import click

from finetune_cli.errors import Exit
from finetune_cli.given import finetunejobs
from finetune_cli.harmless import harmless
from finetune_cli.options import output_option
from finetune_cli.output import emit
from finetune_cli.validation import problems


@click.command("validate")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@output_option("json", "yaml")
def command(files: tuple[str, ...], output: str | None) -> int:
    """Check FineTuneJobs in FILEs ("-": standard input) by the schema and all rules of the CRD.
    Other objects beside them are left to the API server.

    Whether models, data, Secrets and classes of nodes exist is for the cluster to say.
    """
    verdicts = [(item, problems(item.content)) for path in files for item in finetunejobs(path)]
    if output:
        emit(
            [
                {
                    "file": item.where,
                    "valid": not found,
                    "problems": [{"path": p.path, "message": p.message} for p in found],
                }
                for item, found in verdicts
            ],
            output,
        )
    else:
        for item, found in verdicts:
            for problem in found:
                print(f"{item.where}: {harmless(problem)}", file=sys.stderr)
            if not found:
                print(f"{item.where}: FineTuneJob {item.content['metadata']['name']} is valid.")
    return Exit.BAD if any(found for _, found in verdicts) else Exit.OK

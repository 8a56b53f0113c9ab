"""The command line as a whole: which subcommands there are. Each is imported when it is called."""

from __future__ import annotations

import difflib
import importlib
from importlib import metadata

import click
from click.shell_completion import CompletionItem

DISTRIBUTION = "finetune-operator"
# The environment variable by which a shell asks for completions.
COMPLETION = "_KUBECTL_FINETUNE_COMPLETE"

# In the order in which a run needs them.
COMMANDS = {
    "init": "Write a FineTuneJob to start from",
    "validate": "Check files as the API server would, without one",
    "plan": "Show what will run: settings, Jobs, memory, steps",
    "run": "Run it on this machine, without a cluster",
    "list": "List runs",
    "status": "Show how a run stands, live with --watch",
    "logs": "Print the logs of all stages, attempts and ranks",
    "wait": "Wait until runs have ended; fails when one fails",
    "checkpoint": "Save a checkpoint now, and go on",
    "suspend": "Save a checkpoint and free the GPUs",
    "resume": "Go on with a suspended run",
    "stop": "Suspend, and wait until nothing runs any more",
    "rerun": "Go on with a failed run, or do a finished one again",
    "compare": "Settings and results of several runs side by side",
    "report": "Fetch the page about a run",
    "export-job": "Print the Jobs of a run for a cluster without the operator",
    "completion": "Print a completion script for bash, zsh or fish",
}


class LazyGroup(click.Group):
    """Subcommands by name: a command that needs no cluster never imports its client."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"finetune_cli.commands.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [
            CompletionItem(name, help=text)
            for name, text in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            alike = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {alike[0]}?" if alike else f"there are {', '.join(COMMANDS)}."
            ctx.fail(f'There is no command "{args[0]}": {hint}')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _version(context: click.Context, option: click.Parameter, asked: bool) -> None:
    if not asked or context.resilient_parsing:
        return
    try:
        click.echo(metadata.version(DISTRIBUTION))
    except metadata.PackageNotFoundError:
        click.echo("not installed: run from its sources")
    context.exit()


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 the run failed or the file is not valid, 2 usage, 3 not there, "
    "4 no cluster, 5 no rights, 6 time is up, 7 refused by the API server.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
def app() -> None:
    """Fine-tune language models on Kubernetes: work with FineTuneJobs from a terminal."""

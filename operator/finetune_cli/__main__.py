"""The entry point: run the command line and turn every end into a sentence and an exit code."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import click

from finetune_cli.app import COMPLETION, app
from finetune_cli.errors import CliError, Exit
from finetune_cli.harmless import harmless

PROGRAM = "kubectl finetune"
ALONE = "finetune"


def main() -> None:
    """The console scripts kubectl-finetune, for kubectl to find, and finetune."""
    for stream in (sys.stdout, sys.stderr):
        # A message may hold characters that this terminal's encoding does not have.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    program = ALONE if Path(sys.argv[0]).stem == ALONE else PROGRAM
    sys.exit(run(sys.argv[1:], program))


def run(arguments: list[str], program: str = PROGRAM) -> int:
    """Run one command; the exit code."""
    try:
        code = app.main(
            arguments, prog_name=program, complete_var=COMPLETION, standalone_mode=False
        )
        sys.stdout.flush()
        return code if isinstance(code, int) else Exit.OK
    except CliError as error:
        return _say(error.message, error.code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return Exit.USAGE
    except click.ClickException as error:
        return _say(_usage(error, program), Exit.USAGE)
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has seen enough; what is buffered must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except Exception as error:
        if os.environ.get("FINETUNE_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        return _say(
            f"This is a fault of the plug-in ({what}): please report it, with what "
            "FINETUNE_DEBUG=1 in the environment prints.",
            Exit.INTERNAL,
        )


def _usage(error: click.ClickException, program: str) -> str:
    said = " ".join(error.format_message().split())
    context = error.ctx if isinstance(error, click.UsageError) else None
    where = context.command_path if context else program
    end = "" if said.endswith((".", "?")) else "."
    return f"{said}{end} `{where} --help` tells more."


def _say(message: str, code: int) -> int:
    print(f"error: {harmless(message)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()

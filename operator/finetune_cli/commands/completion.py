"""`completion`: a script for the shell, and how kubectl itself completes a plug-in."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from finetune_cli.app import COMPLETION, app

PROGRAM, ALONE = "kubectl-finetune", "finetune"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of kubectl-finetune, or of finetune, for SHELL.

    For `kubectl finetune …` nothing is to be installed: kubectl's own completion calls
    kubectl_complete-finetune, which comes with this plug-in.
    """
    found = get_completion_class(shell)
    assert found is not None
    program = ALONE if Path(sys.argv[0]).stem == ALONE else PROGRAM
    print(found(app, {}, program, COMPLETION).source())


def for_kubectl() -> None:
    """The console script kubectl_complete-finetune: kubectl gives the words after `finetune`, the
    last of them incomplete, and reads lines and a directive, as cobra has them.
    """
    *words, incomplete = sys.argv[1:] or [""]
    shell = get_completion_class("bash")
    assert shell is not None
    files = False
    for item in shell(app, {}, PROGRAM, COMPLETION).get_completions(words, incomplete):
        if item.type in ("file", "dir"):
            files = True
        elif item.type == "plain":
            print(f"{item.value}\t{item.help}" if item.help else item.value)
    # 0: the shell may add names of files; 4: it may not.
    print(":0" if files else ":4")

"""`init`: a file to start from, by flags or a few questions; valid before it is written."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from finetune_cli.errors import CliError, Exit
from finetune_cli.files import STDIN
from finetune_cli.starter import (
    FORMATS,
    METHODS,
    Answers,
    document,
    name_from,
    secrets_of,
    text,
)
from finetune_cli.validation import problems

# What surrounds an answer that is checked by itself.
_EXAMPLE = Answers("run", "acme/base", "acme/data", "text", "lora", 0, None, {})


@click.command("init")
@click.argument("file", required=False, metavar="[FILE]")
@click.option("--name", help="Name of the run. Default: from model and data.")
@click.option("--model", metavar="SOURCE", help="OWNER/NAME on the Hub, or pvc://CLAIM/PATH.")
@click.option("--dataset", metavar="SOURCE", help="The same, or configmap://NAME/KEY.")
@click.option("--format", "form", type=click.Choice(list(FORMATS)), help="Form of the data.")
@click.option(
    "--column", "columns", multiple=True, metavar="FIELD=COLUMN",
    help="Column of the data for a field of the form; may come again.",
)  # fmt: skip
@click.option("--method", type=click.Choice(list(METHODS)), help="What is trained.")
@click.option("--gpus", type=click.IntRange(0, 64), help="GPUs of the training pod; 0: CPU.")
@click.option("--repository", metavar="OWNER/NAME", help="Where to publish; empty: nowhere.")
@click.option(
    "--token-secret", metavar="NAME",
    help="Secret whose token reads what is gated or private, and publishes. Default: hf-write, to "
    "publish only.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Overwrite FILE.")
def command(
    file: str | None,
    name: str | None,
    model: str | None,
    dataset: str | None,
    form: str | None,
    columns: tuple[str, ...],
    method: str | None,
    gpus: int | None,
    repository: str | None,
    token_secret: str | None,
    force: bool,
) -> None:
    """Write a FineTuneJob to FILE (default: NAME.yaml; "-": standard output).

    Asks for what no option gives, on a terminal; elsewhere --model and --dataset are required.
    """
    asks = sys.stdin.isatty()
    named = _columns(columns)
    model = model or _asked("Model (OWNER/NAME on the Hub)", "model", asks)
    dataset = dataset or _asked("Data set (OWNER/NAME on the Hub)", "dataset", asks)
    form = form or _chosen("Form of the data", list(FORMATS), asks)
    named |= _asked_columns(form, named) if asks else {}
    method = method or _chosen("Method", list(METHODS), asks)
    if gpus is None:
        gpus = click.prompt("GPUs", type=click.IntRange(0, 64), default=1, err=True) if asks else 1
    if repository is None:
        repository = _repository() if asks else ""
    answers = Answers(
        name=name or name_from(model, dataset),
        model=model,
        dataset=dataset,
        format=form,
        method=method,
        gpus=gpus,
        repository=repository or None,
        columns=named,
        token_secret=token_secret,
    )
    made = document(answers)
    if token_secret and not secrets_of(made):
        raise CliError(
            "--token-secret has no use: nothing is read from the Hub, and nothing published.",
            Exit.USAGE,
        )
    if found := problems(made):
        raise CliError(f"That is not a valid FineTuneJob: {found[0]}", Exit.BAD)
    _write(file or f"{answers.name}.yaml", text(made), force=force)


def _asked(question: str, option: str, asks: bool) -> str:
    if not asks:
        raise CliError(f"--{option} is missing, and there is no terminal to ask on.", Exit.USAGE)
    return str(click.prompt(question, err=True, value_proc=_checked(option)))


def _checked(answer: str) -> Callable[[str], str]:
    """What sees that an answer is one that the API server takes: else it is asked for again."""
    path = {"repository": "spec.upload.repository"}.get(answer, f"spec.{answer}.source")

    def check(text: str) -> str:
        given: dict[str, Any] = {answer: text}
        for problem in problems(document(replace(_EXAMPLE, **given))):
            if problem.path == path:
                raise click.UsageError(f"{problem.path} {problem.message}")
        return text

    return check


def _asked_columns(form: str, named: Mapping[str, str]) -> dict[str, str]:
    return {
        field: str(click.prompt(f"Column with the {field}", default=column, err=True))
        for field, column in FORMATS[form].items()
        if field not in named
    }


def _chosen(question: str, choices: list[str], asks: bool) -> str:
    if not asks:
        return choices[0]
    return str(click.prompt(question, type=click.Choice(choices), default=choices[0], err=True))


def _repository() -> str:
    question = "Publish as (OWNER/NAME on the Hub; empty: nowhere)"
    check = _checked("repository")
    return str(
        click.prompt(
            question,
            default="",
            show_default=False,
            err=True,
            value_proc=lambda text: check(text) if text else "",
        )
    )


def _columns(pairs: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        field, separator, column = pair.partition("=")
        if not separator or not field or not column:
            raise CliError(f"--column {pair} must be FIELD=COLUMN.", Exit.USAGE)
        found[field] = column
    return found


def _write(file: str, content: str, *, force: bool) -> None:
    if file == STDIN:
        sys.stdout.write(content)
        return
    path = Path(file)
    if path.exists() and not force:
        raise CliError(f"{file} exists: name another file, or say --force.")
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise CliError(f"{file} cannot be written: {error.strerror}.") from None
    print(f"{file} is written. Next: `kubectl finetune plan {file}`, `kubectl apply -f {file}`.")

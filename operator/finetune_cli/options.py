"""Options that several subcommands share: which cluster, which namespace, which output."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import click

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Target:
    """Which cluster and namespace a command is about; None: what the kubeconfig says."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None

    def advice(self, verb: str, name: str) -> str:
        """The command for one of these runs, as it is to be typed."""
        given = {
            "-n": self.namespace,
            "--context": self.context,
            "--kubeconfig": self.kubeconfig,
        }
        options = [f" {option} {shlex.quote(value)}" for option, value in given.items() if value]
        return f"`kubectl finetune {verb} {name}{''.join(options)}`"


def target_options(function: F) -> F:
    """-n, --context and --kubeconfig, as kubectl has them, given to the command as `target`."""

    # `wraps` hands on what click's decorators below this one have collected.
    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        target = Target(kwargs.pop("namespace"), kwargs.pop("context"), kwargs.pop("kubeconfig"))
        return function(*args, target=target, **kwargs)

    for option in (
        click.option("--kubeconfig", metavar="FILE", help="Access to the cluster."),
        click.option("--context", metavar="NAME", help="Context of the kubeconfig."),
        click.option("-n", "--namespace", metavar="NAME", help="Namespace of the runs."),
    ):
        command = option(command)
    return cast(F, command)


def output_option(*choices: str) -> Callable[[F], F]:
    """-o with these formats; without it: a view for people."""
    return click.option(
        "-o", "--output", type=click.Choice(choices), default=None, help="Another format."
    )

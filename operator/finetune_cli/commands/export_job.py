"""`export-job`: the objects that the operator would create, for a cluster that has none."""

from __future__ import annotations

import sys

import click

from finetune_cli.errors import CliError, Exit
from finetune_cli.exported import exported
from finetune_cli.given import finetunejob
from finetune_cli.output import emit
from finetune_cli.show.export import list_of, script_of, yaml_of
from finetune_operator.config import ConfigError, labels
from finetune_operator.core.model import Platform, Settings


def _labels(ctx: click.Context, param: click.Parameter, text: str | None) -> dict[str, str]:
    try:
        return labels(text or "", "--node-selector")
    except ConfigError as error:
        raise CliError(str(error), Exit.USAGE) from None


@click.command("export-job")
@click.argument("file", metavar="FILE")
@click.option(
    "--trainer-image",
    metavar="IMAGE",
    envvar="FINETUNE_TRAINER_IMAGE",
    show_envvar=True,
    help="Image of the stages; spec.trainer.image goes before it.",
)
@click.option(
    "--storage-class",
    metavar="NAME",
    envvar="FINETUNE_STORAGE_CLASS",
    show_envvar=True,
    help="Class of the workspace, unless the file names one. Default: the cluster's.",
)
@click.option(
    "--node-selector",
    metavar="KEY=VALUE,...",
    envvar="FINETUNE_NODE_SELECTOR",
    show_envvar=True,
    callback=_labels,
    help="Labels that the nodes must have, besides the file's.",
)
@click.option(
    "--priority-class",
    metavar="NAME",
    envvar="FINETUNE_PRIORITY_CLASS",
    show_envvar=True,
    help="Priority class of the pods, unless the file names one.",
)
@click.option(
    "--hub-endpoint",
    metavar="URL",
    envvar="HF_ENDPOINT",
    show_envvar=True,
    help="The Hub that prepare and upload talk to. Default: huggingface.co.",
)
@click.option(
    "--allow-cpu",
    is_flag=True,
    envvar="FINETUNE_ALLOW_CPU",
    show_envvar=True,
    help="Train on the CPU where a pod asked for GPUs and sees none.",
)
@click.option(
    "-n",
    "--namespace",
    metavar="NAME",
    help="Namespace of the objects, unless the file names one. Default: where they are applied.",
)
@click.option(
    "-o", "--output", type=click.Choice(["yaml", "json", "sh"]), default="yaml", show_default=True,
    help="Documents, a List, or a script that runs the stages in turn.",
)  # fmt: skip
def command(
    file: str,
    trainer_image: str | None,
    storage_class: str | None,
    node_selector: dict[str, str],
    priority_class: str | None,
    hub_endpoint: str | None,
    allow_cpu: bool,
    namespace: str | None,
    output: str,
) -> None:
    """Print what the operator would create for the FineTuneJob in FILE ("-": standard input).

    For a cluster where no operator may be installed; needs none itself. What is told of a run there
    is what its Jobs, their logs and report.html in the workspace tell. Options are those that an
    operator is told, by the same variables.
    """
    document = finetunejob(file)
    own = document["metadata"].get("namespace")
    if own and namespace and own != namespace:
        raise CliError(
            f"{file} names the namespace {own}, and --namespace {namespace}: leave one of the two "
            "out.",
            Exit.USAGE,
        )
    if not trainer_image and not (document["spec"].get("trainer") or {}).get("image"):
        raise CliError(
            "The trainer image is not known: say --trainer-image IMAGE, or set "
            "FINETUNE_TRAINER_IMAGE or spec.trainer.image.",
            Exit.USAGE,
        )
    settings = Settings(
        trainer_image=trainer_image or "",
        hub_endpoint=hub_endpoint or None,
        allow_cpu=allow_cpu,
        platform=Platform(
            storage_class=storage_class or None,
            node_selector=node_selector,
            priority_class=priority_class or None,
        ),
    )
    found = exported(document, settings, namespace)
    if found.queued and output != "sh":
        raise CliError(
            "Kueue starts all Jobs of a queue as soon as there is room, all of them: say -o sh for "
            "a script that makes each when the one before is complete.",
            Exit.USAGE,
        )
    match output:
        case "json":
            emit(list_of(found), output)
        case "sh":
            sys.stdout.write(script_of(found))
        case _:
            sys.stdout.write(yaml_of(found))

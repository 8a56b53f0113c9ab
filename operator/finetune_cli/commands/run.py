"""`run`: a FineTuneJob's stages on this machine, without a cluster."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click
from rich.console import Group

from finetune_cli.errors import CliError, Exit
from finetune_cli.local import order as orders
from finetune_cli.local.bindings import Bindings, config_maps_of, paths
from finetune_cli.local.machine import require_gpus, require_one_node, require_trainer
from finetune_cli.local.order import Order
from finetune_cli.local.place import Place
from finetune_cli.local.session import Session
from finetune_cli.local.wording import localized
from finetune_cli.options import output_option
from finetune_cli.output import emit
from finetune_cli.preview import preview
from finetune_cli.show.made import made
from finetune_cli.show.plan import costs
from finetune_cli.show.running import watching
from finetune_cli.show.screen import show
from finetune_cli.view import Run
from finetune_operator.api.status import Status
from finetune_operator.core import stages
from finetune_operator.core.model import Settings
from finetune_operator.vocabulary import Phase, Stage

LAST = [str(stage) for stage in Stage if stage is not Stage.UPLOAD]


@click.command("run")
@click.argument("file", metavar="FILE")
@click.option("--workspace", metavar="DIR", help="The run's directory. Default: its name.")
@click.option("--gpus", type=click.IntRange(0, 64), help="In place of spec.resources.gpusPerNode.")
@click.option("--python", default=sys.executable, metavar="PYTHON", help="One with the trainer.")
@click.option("--volume", multiple=True, metavar="CLAIM=DIR", help="What a claim's source means.")
@click.option("--config-map", multiple=True, metavar="NAME=DIR", help="The files of a ConfigMap.")
@click.option("--secret", multiple=True, metavar="NAME=FILE", help="The token of a Secret.")
@click.option("--until", type=click.Choice(LAST), help="The last stage to run.")
@click.option("--start-over", is_flag=True, help="Do again what this directory's run has done.")
@output_option("json", "yaml")
def command(
    file: str,
    workspace: str | None,
    gpus: int | None,
    python: str,
    volume: tuple[str, ...],
    config_map: tuple[str, ...],
    secret: tuple[str, ...],
    until: str | None,
    start_over: bool,
    output: str | None,
) -> int:
    """Run the FineTuneJob in FILE ("-": standard input) as processes of this machine.

    The same stages with the same settings as in a cluster. Ctrl-C saves a checkpoint; the same
    command goes on from there, tries a failed run again, and leaves a finished one as it is. A
    Secret without --secret has the token in HF_TOKEN.
    """
    document, others = orders.read(file)
    if gpus is not None:
        resources = document["spec"].get("resources", {})
        document["spec"]["resources"] = {**resources, "gpusPerNode": gpus}
    bindings = Bindings(
        volumes=paths("--volume", volume, directory=True),
        config_maps={**config_maps_of(others), **paths("--config-map", config_map, directory=True)},
        secrets=paths("--secret", secret, directory=False),
        token=os.environ.get("HF_TOKEN") or None,
    )
    settings = Settings(
        trainer_image=orders.HERE,
        hub_endpoint=os.environ.get("HF_ENDPOINT") or None,
        allow_cpu=os.environ.get("FINETUNE_ALLOW_CPU") == "true",
    )
    place = Place(Path(workspace or document["metadata"]["name"]))
    ordered = partial(
        orders.order,
        document,
        place,
        settings,
        bindings,
        python=python,
        until=Stage(until) if until else None,
        start_over=start_over,
    )
    wanted = ordered(datetime.now(UTC))
    trains = not wanted.leaves_out(Stage.TRAIN)
    if trains:
        require_one_node(wanted.resource)
    orders.check(wanted, place, settings)
    if wanted.resource.status.phase is not Phase.SUCCEEDED or wanted.asks_anew:
        require_trainer(python)
        if trains:
            require_gpus(wanted.resource, python, allow_cpu=settings.allow_cpu)
    with place.held():
        # Once more: another call may have ended just now.
        return _run(ordered(datetime.now(UTC)), place, settings, output)


def _run(wanted: Order, place: Place, settings: Settings, output: str | None) -> int:
    with watching(place, quiet=output is not None) as told:
        session = Session(wanted, place, settings, told)
        status = session.drive()
    if output:
        emit(session.document(), output)
    entry = stages.current(status)
    as_wanted = entry is not None and wanted.leaves_out(entry.name)
    if status.phase is Phase.SUCCEEDED or (as_wanted and not session.interrupted):
        if not output:
            _tell(status, place, anything_done=status != wanted.resource.status)
            if status.phase is not Phase.SUCCEEDED:
                print("It ends here, as asked for: the same command without --until goes on.")
            if wanted.until is Stage.PREPARE:
                document = session.document()
                show(Group(*costs(preview(document, "default"), Run(document))))
        return Exit.OK
    code = Exit.INTERRUPTED
    if status.phase is Phase.FAILED:
        code = Exit.BAD
        if not output:
            log = place.log(entry.job) if entry is not None and entry.job else None
            show(made(status, place.root, place.report, log))
    raise CliError(localized(status.message or str(status.phase), place.log), code)


def _tell(status: Status, place: Place, *, anything_done: bool) -> None:
    if not anything_done and status.phase is Phase.SUCCEEDED:
        print("This run has ended already: --start-over does it again.")
    show(made(status, place.root, place.report))

"""What one call of `finetune run` is to do: from the file, and from what its directory holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finetune_cli.errors import CliError
from finetune_cli.given import with_the_rest
from finetune_cli.local.again import asked
from finetune_cli.local.bindings import Bindings
from finetune_cli.local.mounts import missing, mounts, pod_of
from finetune_cli.local.place import Place
from finetune_cli.preview import resource_of
from finetune_cli.validation import without_nulls
from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.spec import Spec
from finetune_operator.api.status import Status
from finetune_operator.build.common import WORKSPACE_DIRECTORY
from finetune_operator.build.manifests import manifest
from finetune_operator.core.model import CreateJob, Observed, Settings
from finetune_operator.core.moments import to_text
from finetune_operator.core.pinned import footing
from finetune_operator.core.plan import is_before
from finetune_operator.vocabulary import Stage, StageState

Json = dict[str, Any]
# In place of an image's name, in the plan and in its hash; and in place of a uid.
HERE = "local"


@dataclass(frozen=True, slots=True)
class Order:
    """`resource` has the status so far, and the token to decide with; `spec` is the file's, which
    the next call compares with. `anew`: what was made so far counts as lost. `until`: the last
    stage to run.
    """

    resource: FineTuneJob
    spec: Mapping[str, Any]
    created: str
    bindings: Bindings
    python: str
    anew: bool = False
    until: Stage | None = None

    def leaves_out(self, stage: Stage) -> bool:
        """Whether the stage comes after the last one to run."""
        return self.until is not None and is_before(self.until, stage)

    @property
    def asks_anew(self) -> bool:
        """Whether something is to be done again, or otherwise than before."""
        return self.resource.spec.rerun_token != self.resource.status.rerun_token


def read(file: str) -> tuple[Json, list[Any]]:
    """The FineTuneJob of a file, and what else is in it.

    Raises:
        CliError: there is not one, or it is not valid.
    """
    document, others = with_the_rest(file)
    if document["spec"].get("suspend"):
        raise CliError("spec.suspend is true, so nothing would run: set it to false.")
    return without_nulls(document), others


def resource(document: Json, status: Status | None = None) -> FineTuneJob:
    """The run of a valid document."""
    made = resource_of(document, "default")
    # The image is a cluster's matter: here the trainer of a Python runs.
    trainer = made.spec.trainer.model_copy(update={"image": None})
    spec = made.spec.model_copy(update={"trainer": trainer})
    metadata = made.metadata.model_copy(update={"uid": HERE})
    return FineTuneJob(metadata=metadata, spec=spec, status=status or Status())


def order(
    document: Json,
    place: Place,
    settings: Settings,
    bindings: Bindings,
    now: datetime,
    *,
    python: str,
    until: Stage | None,
    start_over: bool,
) -> Order:
    """What to do with the document in this place.

    Raises:
        CliError: the place holds another run.
    """
    stored = place.load(document["metadata"]["name"])
    if stored is None:
        wanted, created, anew = resource(document), to_text(now), False
    else:
        status, former, created = _former(stored, place)
        wanted = resource(document, status)
        plan = place.plan(wanted.metadata.name, status.plan_hash)
        what = asked(wanted, former, plan, settings, now, start_over=start_over)
        spec = wanted.spec.model_copy(update={"rerun_token": what.token})
        wanted, anew = wanted.model_copy(update={"spec": spec}), what.anew
    return Order(wanted, document["spec"], created, bindings, python, anew, until)


def _former(stored: Json, place: Place) -> tuple[Status, Spec, str]:
    """Status and spec of the last call, and when the first one was."""
    try:
        status = Status.model_validate(stored["status"])
        return status, resource(stored).spec, str(stored["metadata"]["creationTimestamp"])
    except (KeyError, TypeError, ValidationError) as error:
        raise CliError(
            f"{place.state} is not what `finetune run` has written there ({type(error).__name__}): "
            "restore it, or name another --workspace."
        ) from None


def check(wanted: Order, place: Place, settings: Settings) -> None:
    """See that all that the stages to come mount is there, before anything starts.

    Raises:
        CliError: something is not; a sentence for each names the field and the option.
    """
    pods = [
        pod_of(manifest(action, wanted.resource, settings))
        for action in _to_come(wanted, place, settings)
    ]
    sentences = (sentence for pod in pods for sentence in missing(pod, wanted.bindings))
    # Several stages may mount the same.
    if told := dict.fromkeys(sentences):
        raise CliError(" ".join(told))
    for pod in pods:
        for mount in mounts(pod, wanted.bindings, place.root):
            content = mount.content
            if mount.at == WORKSPACE_DIRECTORY or not isinstance(content, Path):
                continue
            if content.resolve().is_relative_to(place.root.resolve()):
                raise CliError(
                    f"{content}, said to be a claim, is in the workspace {place.root}, which "
                    "prepare clears: name another --workspace."
                )


def _to_come(wanted: Order, place: Place, settings: Settings) -> list[CreateJob]:
    """First attempts of the stages that this call is to run."""
    resource = wanted.resource
    plan = place.plan(resource.metadata.name, resource.status.plan_hash)
    facts = Observed(resource=resource, plan=plan, claim_lost=wanted.anew)
    ground = footing(facts, settings, datetime.now(UTC))
    if ground.plan is None:
        return []
    return [
        CreateJob(entry.name, 1, ground.plan)
        for entry in ground.status.stages
        if entry.state is not StageState.SUCCEEDED and not wanted.leaves_out(entry.name)
    ]

"""The resource as a whole: metadata as far as decisions need it, and the rules at the root."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from finetune_operator.api.schema import ApiModel, Cel
from finetune_operator.api.spec import AFTER_TRAINING, RUN_DEFINING, Spec
from finetune_operator.api.status import Status

# The longest child is NAME-train-9999-999, a pod's hostname: 63 characters at most.
NAME_LIMIT = 48


def _fixed_after_start(field: str) -> Cel:
    same = (
        f"(has(self.spec.{field}) == has(oldSelf.spec.{field}) && "
        f"(!has(self.spec.{field}) || self.spec.{field} == oldSelf.spec.{field}))"
    )
    started = "has(oldSelf.status) && has(oldSelf.status.planHash)"
    token = (
        "has(self.spec.rerunToken) && (!has(oldSelf.spec.rerunToken) || "
        "self.spec.rerunToken != oldSelf.spec.rerunToken)"
    )
    then = (
        "what is trained is kept"
        if field in AFTER_TRAINING
        else "the run starts over where it has to"
    )
    return Cel(
        f"!({started}) || {same} || ({token})",
        f"spec.{field} may not change after the run has started: create a FineTuneJob with a new "
        f"name, or change spec.rerunToken together with it; {then}",
        field_path=f".spec.{field}",
        forbidden=True,
    )


def _not_on_the_workspace(field: str, source_is_elsewhere: str) -> Cel:
    """`source_is_elsewhere` is a CEL expression over `w`, what a source on the workspace's claim
    begins with: an API server counts what it costs to make that for every data set.
    """
    workspace = (
        "(has(self.spec.storage.claimName) ? self.spec.storage.claimName : "
        "self.metadata.name + '-workspace')"
    )
    return Cel(
        f"['pvc://' + {workspace} + '/'].all(w, {source_is_elsewhere})",
        f"spec.{field}.source is on the claim that is the run's workspace, which prepare clears: "
        "use an empty claim as spec.storage.claimName, or move the source to another claim",
        field_path=f".spec.{field.removesuffix('[]')}",
    )


class Metadata(ApiModel):
    """The parts of ObjectMeta that decisions need."""

    name: str
    namespace: str
    uid: str
    generation: int = 1
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default={}, description="Labels that decisions need.")
    annotations: dict[str, str] = Field(default={}, description="Annotations that they need.")
    finalizers: tuple[str, ...] = ()


class FineTuneJob(ApiModel):
    """A fine-tuning run, from data to a published model."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && "
            f"size(self.metadata.name) <= {NAME_LIMIT}",
            f"metadata.name must be at most {NAME_LIMIT} characters of a-z, 0-9 and '-', starting "
            "with a letter: Jobs, pods and a Service are named after it",
            field_path=".metadata.name",
            create_only=True,
        ),
        _not_on_the_workspace("model", "!(self.spec.model.source + '/').startsWith(w)"),
        _not_on_the_workspace(
            "dataset",
            "!has(self.spec.dataset) || !(self.spec.dataset.source + '/').startsWith(w)",
        ),
        _not_on_the_workspace(
            "datasets[]",
            "!has(self.spec.datasets) || "
            "self.spec.datasets.all(d, !(d.source + '/').startsWith(w))",
        ),
        *(_fixed_after_start(field) for field in RUN_DEFINING),
    )

    metadata: Metadata
    spec: Spec = Field(description="What to train, on what, how, and where the result goes.")
    status: Status = Field(default=Status(), description="The state of the run.")

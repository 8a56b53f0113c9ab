"""What the operator would do with a FineTuneJob: its plan and its objects, by the operator's own
pure functions. No cluster is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from finetune_cli.validation import defaulted
from finetune_operator.api.resource import FineTuneJob, Metadata
from finetune_operator.api.spec import Spec
from finetune_operator.build.manifests import manifest
from finetune_operator.core.model import (
    CreateClaim,
    CreateJob,
    CreatePlan,
    CreateService,
    Plan,
    Settings,
)
from finetune_operator.core.plan import make_plan
from finetune_operator.vocabulary import Stage

Json = dict[str, Any]
# Which image the operator was given is not known offline; the plan's hash depends on it.
UNKNOWN_IMAGE = "(the operator's)"


@dataclass(frozen=True, slots=True)
class StageJob:
    """The first Job of a stage, and what its pods ask for."""

    stage: str
    name: str
    pods: int
    asks: Mapping[str, str]
    limited: bool
    secrets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """What will run. `derived`: settings that the plan has and the stored spec does not."""

    plan: Plan
    jobs: list[StageJob]
    others: list[Json]
    settings: dict[str, str]
    derived: dict[str, str]
    given: frozenset[str]

    @property
    def image(self) -> str:
        return self.plan.trainer_image

    @property
    def hash(self) -> str | None:
        """The plan's hash; None where it depends on what only the operator knows."""
        return None if self.image == UNKNOWN_IMAGE else self.plan.hash


def preview(document: Json, namespace: str, plan: Plan | None = None) -> Preview:
    """What a valid document leads to. `plan`: the one that is pinned already."""
    resource = resource_of(document, namespace)
    settings = Settings(trainer_image=plan.trainer_image if plan else UNKNOWN_IMAGE)
    plan = plan or make_plan(resource, settings)
    stored = dict(flat(defaulted(document)["spec"]))
    run = dict(flat({key: value for key, value in plan.run.items() if key not in _NAMES}))
    derived = {path: value for path, value in run.items() if path not in stored}
    return Preview(
        plan=plan,
        jobs=[_job(resource, plan, settings, stage) for stage in plan.stages],
        others=list(besides(resource, plan, settings)),
        settings=run,
        derived=derived,
        given=frozenset(path for path, _ in flat(document["spec"])),
    )


_NAMES = {"contractVersion", "name", "namespace", "planHash", "continues"}


def resource_of(document: Json, namespace: str) -> FineTuneJob:
    """A valid document as the operator sees it; `namespace`: where it is if it does not say."""
    metadata = document["metadata"]
    return FineTuneJob(
        metadata=Metadata(
            name=metadata["name"],
            namespace=metadata.get("namespace") or namespace,
            uid=str(metadata.get("uid", "")),
            labels=_labels(metadata),
        ),
        spec=Spec.model_validate(defaulted(document)["spec"]),
    )


def _labels(metadata: Json) -> dict[str, str]:
    found = metadata.get("labels")
    return {k: str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def _job(resource: FineTuneJob, plan: Plan, settings: Settings, stage: Stage) -> StageJob:
    job = manifest(CreateJob(stage, 1, plan), resource, settings)
    pod = job["spec"]["template"]["spec"]
    resources = pod["containers"][0]["resources"]
    asks = resources.get("limits") or resources.get("requests") or {}
    return StageJob(
        stage=str(stage),
        name=job["metadata"]["name"],
        pods=job["spec"].get("parallelism", 1),
        asks=asks,
        limited="limits" in resources,
        # Each once: one token may be for the model and the data.
        secrets=tuple(
            dict.fromkeys(v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v)
        ),
    )


def besides(resource: FineTuneJob, plan: Plan, settings: Settings) -> Iterator[Json]:
    """What the operator makes before the first Job."""
    if resource.spec.storage.claim_name is None:
        yield manifest(CreateClaim(), resource, settings)
    yield manifest(CreatePlan(plan), resource, settings)
    if plan.run["resources"]["nodes"] > 1:
        yield manifest(CreateService(), resource, settings)


def flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Paths and values of everything below: `training.epochs`, `1`. A list of values is one."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from flat(item, f"{path}.{key}".removeprefix("."))
        return
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        for index, item in enumerate(value):
            yield from flat(item, f"{path}[{index}]")
        return
    yield path, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value in (None, {}) else str(value)

"""A FineTuneJob as plain objects of Kubernetes, for a cluster without the operator: those that the
operator would create, less what only an operator can keep. No cluster is asked.

What differs from the operator's objects, and why:

* no owner: there is no FineTuneJob that they could go away with;
* no progress reports: nobody would take them (the settings have no endpoint);
* attempts: the operator makes a Job for each, here a Job with one pod tries again by itself, and
  all its pods are told that they are the first.
  Several pods must start again together, which a Job cannot have them do: they have one attempt;
* no namespace, if none is named: then it is the one where they are applied.

How they are put in order is show/export.py's matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finetune_cli.errors import CliError, Exit
from finetune_cli.preview import besides, resource_of
from finetune_cli.validation import is_namespace
from finetune_operator.build.manifests import manifest
from finetune_operator.core.attempts import ATTEMPTS
from finetune_operator.core.model import CreateJob, Settings
from finetune_operator.core.plan import make_plan
from finetune_operator.vocabulary import ANNOTATION_PLAN_HASH, ExitCode

Json = dict[str, Any]
DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class Export:
    """The objects of a run, in the order in which they are needed; `jobs`: one for each stage.

    `namespace` is None if they name none. `suspended`: the run asks for that itself.
    """

    name: str
    namespace: str | None
    besides: list[Json]
    jobs: list[Json]
    suspended: bool

    @property
    def plan_hash(self) -> str:
        """What all Jobs of this plan bear."""
        return str(self.jobs[0]["metadata"]["annotations"][ANNOTATION_PLAN_HASH])

    @property
    def queued(self) -> bool:
        """Whether the Jobs are made suspended, for Kueue to start them."""
        return bool(self.jobs[0]["spec"].get("suspend"))


def exported(document: Json, settings: Settings, namespace: str | None = None) -> Export:
    """The objects of a valid FineTuneJob; `settings`: what an operator would be told."""
    named = document["metadata"].get("namespace") or namespace
    if named is not None and not is_namespace(str(named)):
        # It stands in a script that somebody will run.
        raise CliError(f'"{named}" is no name of a namespace: give another.', Exit.USAGE)
    resource = resource_of(document, named or DEFAULT_NAMESPACE)
    plan = make_plan(resource, settings)
    jobs = [manifest(CreateJob(stage, 1, plan), resource, settings) for stage in plan.stages]
    return Export(
        name=resource.metadata.name,
        namespace=named,
        besides=[_alone(item, named) for item in besides(resource, plan, settings)],
        jobs=[_alone(job, named) | {"spec": job["spec"] | _attempts(job)} for job in jobs],
        suspended=bool(resource.spec.suspend),
    )


def _alone(item: Json, namespace: str | None) -> Json:
    dropped = {"ownerReferences"} if namespace else {"ownerReferences", "namespace"}
    metadata = {key: value for key, value in item["metadata"].items() if key not in dropped}
    return {**item, "metadata": metadata}


def _attempts(job: Json) -> Json:
    """The operator's attempts (core/attempts.py, core/failure.py), as far as a Job can make them:
    with one budget for all failures that trying again can mend, and no pause but its own.
    """
    spec = job["spec"]
    if spec.get("parallelism", 1) > 1:
        return {}
    [container] = spec["template"]["spec"]["containers"]

    def ended_with(*codes: int) -> Json:
        return {"containerName": container["name"], "operator": "In", "values": list(codes)}

    disrupted = [{"type": "DisruptionTarget", "status": "True"}]
    never_again = ended_with(ExitCode.USER_ERROR, ExitCode.NON_FINITE_LOSS)
    rules = [
        {"action": "FailJob", "onExitCodes": never_again},
        {"action": "Ignore", "onExitCodes": ended_with(ExitCode.PREEMPTED)},
        {"action": "Ignore", "onPodConditions": disrupted},
    ]
    return {"backoffLimit": ATTEMPTS - 1, "podFailurePolicy": {"rules": rules}}

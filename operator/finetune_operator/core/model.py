"""What the core sees and what it answers: frozen records, no behaviour.

`Observed` is everything that a decision may depend on; `Decision` is everything that follows from
it. The runtime fills the one and carries out the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.status import Status
from finetune_operator.vocabulary import RefusalReason, Stage


@dataclass(frozen=True, slots=True)
class Platform:
    """Defaults and limits for all runs, as those who run the operator set them.

    What a run says itself goes before a default (of `node_selector` label by label), and never
    before a limit. `max_gpus`: of one run, over all its nodes. `image_registries`: where a run's
    own trainer image may come from, each a host or the beginning of a path; none: anywhere.
    """

    storage_class: str | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    priority_class: str | None = None
    max_gpus: int | None = None
    image_registries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator was told, as far as plans and manifests depend on it."""

    trainer_image: str
    hub_endpoint: str | None = None
    allow_cpu: bool = False  # pods that asked for accelerators and see none train on the CPU
    progress_url: str | None = None  # base URL that pods reach; None: no progress reports
    progress_ca: str | None = None  # PEM of the authority that signed that endpoint's certificate
    platform: Platform = field(default_factory=Platform)


@dataclass(frozen=True, slots=True)
class Plan:
    """A pinned plan: `run` is run.json's content, `hash` names it, `stages` is the order."""

    hash: str
    run: Mapping[str, Any]
    stages: tuple[Stage, ...]
    trainer_image: str


class JobState(StrEnum):
    """A Job's life as its conditions tell it."""

    SUSPENDED = "Suspended"
    WAITING = "Waiting"  # of its pods at least one has not started
    RUNNING = "Running"
    STOPPING = "Stopping"  # a pod is being stopped, so the attempt will end
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    DELETING = "Deleting"


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A stage Job, projected from the watch."""

    name: str
    uid: str
    owner_uid: str
    stage: Stage
    attempt: int
    plan_hash: str  # of the plan that it works by (core/plan.py, hash_for)
    template_hash: str  # core/template.py
    state: JobState
    reason: str = ""  # of the terminal condition
    message: str = ""
    start_time: str | None = None
    completion_time: str | None = None


@dataclass(frozen=True, slots=True)
class Termination:
    """What the pods of a Job that ended have left: the pod that explains it best.

    `document` is the termination message's JSON, `{}` if there was none that could be read.
    """

    exit_code: int | None = None
    document: Mapping[str, Any] = field(default_factory=dict)
    node: str | None = None
    container_reason: str = ""  # OOMKilled, Error, ContainerCannotRun, …
    pod_reason: str = ""  # Evicted, DisruptionTarget's reason, …
    pod_message: str = ""
    started_at: str | None = None  # when its container began to run
    disrupted: bool = False  # the cluster has stopped the pod: drained, preempted, node lost


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a Job's pods wait for: to start (Unschedulable, ImagePullBackOff, …), or to stop.

    `since`: when what is waited for began; None: not known.
    """

    reason: str
    message: str
    since: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The latest progress report of a run's training pods (docs/stage-contract.md, Progress)."""

    job: str  # the Job whose pod sent it
    received_at: datetime
    percent: int | None = None
    eta_seconds: int | None = None
    metrics: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An action of the last decision was refused or failed for long, or its name is taken.

    `final`: the same action fails again, so the run has failed. Otherwise it is tried again later
    and the message only tells what the run waits for. `passes`: by itself, and soon.
    """

    reason: RefusalReason
    message: str
    final: bool
    passes: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """All facts that a decision depends on.

    `jobs` are those owned by this resource (by uid); the Job that status says is running is missing
    only if the API server says that there is none. `stopped` are the names of Jobs that were
    deleted by a decision, and not by somebody else. `terminations` and `waiting` are by Job name;
    the runtime reads pods only for Jobs that ended and are not recorded yet, or whose pods are long
    in starting or stopping: a Job that waits and is missing in `waiting` was not looked into yet.
    `plan` is the pinned plan that `status.planHash` names, read back from its ConfigMap; None
    before it was pinned, or when the ConfigMap is gone. `claim_lost`: a rerun is asked for, and the
    claim with what was made so far is gone.
    """

    resource: FineTuneJob
    jobs: tuple[JobRecord, ...] = ()
    terminations: Mapping[str, Termination] = field(default_factory=dict)
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    stopped: frozenset[str] = frozenset()
    plan: Plan | None = None
    claim_lost: bool = False
    report: Report | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class CreatePlan:
    """Pin the plan: an immutable ConfigMap with run.json."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class CreateClaim:
    """Make the workspace's claim (not for storage.claimName), or let the one there is grow."""


@dataclass(frozen=True, slots=True)
class CheckClaim:
    """See that a claim of the user's (storage.claimName) can be mounted on so many nodes."""

    name: str
    nodes: int


@dataclass(frozen=True, slots=True)
class CreateService:
    """Make the headless Service of the training pods."""


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Start an attempt of a stage."""

    stage: Stage
    attempt: int
    plan: Plan


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Stop an attempt; its pods get SIGTERM and their grace period.

    Deleted in the foreground: the Job stays, as `Deleting`, until its pods are gone, and nothing
    else of the run starts before that.
    """

    name: str
    uid: str


Action = CreatePlan | CreateClaim | CheckClaim | CreateService | CreateJob | DeleteJob


@dataclass(frozen=True, slots=True)
class Event:
    """An event on the resource, as `kubectl describe` shows it."""

    type: str  # Normal or Warning
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Actions in order, the status they lead to, events about the change, when to look again.

    The status is written, and the events told, only after all actions have been carried out; what
    was carried out without that is found again among the observed facts. `requeue_after` is in
    seconds.
    """

    actions: tuple[Action, ...]
    status: Status
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None

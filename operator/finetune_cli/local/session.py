"""One call of `finetune run`: look, let the core decide, carry out, write the status down; again
and again until the run has ended or was asked to stop.

The counterpart of the operator's reconciler for one run whose cluster is this process.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from finetune_cli.local.endpoint import Endpoint
from finetune_cli.local.mounts import mounts, pod_of
from finetune_cli.local.order import Order
from finetune_cli.local.place import Place
from finetune_cli.local.process import Machine, StageProcess
from finetune_operator.api.status import Status
from finetune_operator.build.manifests import manifest
from finetune_operator.core.decide import decide
from finetune_operator.core.model import (
    Action,
    CreateJob,
    CreatePlan,
    DeleteJob,
    JobRecord,
    JobState,
    Observed,
    Settings,
    Termination,
)
from finetune_operator.core.moments import to_text
from finetune_operator.core.naming import plan_name
from finetune_operator.core.pinned import footing
from finetune_operator.core.plan import hash_for
from finetune_operator.core.status import FINAL
from finetune_operator.vocabulary import (
    ANNOTATION_TEMPLATE_HASH,
    API_VERSION,
    KIND,
    ExitCode,
    Phase,
    Stage,
    StageState,
)

Json = dict[str, Any]
Told = Callable[[Json], None]
LOOK_SECONDS = 0.2
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Session:
    """Drives one run in its place; `told` gets the resource whenever its status has changed."""

    def __init__(self, order: Order, place: Place, settings: Settings, told: Told) -> None:
        self._order = order
        self._place = place
        self._told = told
        self._status = order.resource.status
        self._wake = threading.Event()
        self._endpoint = Endpoint(self._wake.set)
        self._settings = replace(settings, progress_url=self._endpoint.url)
        self._jobs: dict[str, JobRecord] = {}
        self._processes: dict[str, StageProcess] = {}
        self._terminations: dict[str, Termination] = {}
        # Whatever an earlier call left running has ended with it, or the place would be taken.
        running = (entry for entry in self._status.stages if entry.state is StageState.RUNNING)
        self._stopped = {str(entry.job) for entry in running}
        self._anew = order.anew
        self._signals = 0

    @property
    def interrupted(self) -> bool:
        """It was asked to stop."""
        return self._signals > 0

    def document(self) -> Json:
        """The resource, as it is kept."""
        metadata = self._order.resource.metadata
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": metadata.name,
                "namespace": metadata.namespace,
                "generation": metadata.generation,
                "creationTimestamp": self._order.created,
            },
            "spec": dict(self._order.spec),
            "status": self._status.model_dump(mode="json", by_alias=True, exclude_none=True),
        }

    def drive(self) -> Status:
        """Work until the run has ended, or nothing runs any more after a signal.

        Raises:
            CliError: the place or a process cannot be used; what ran was asked to save first.
        """
        with self._listening(), self._endpoint:
            try:
                while True:
                    again = self._look()
                    if self._status.phase in FINAL or self._rests():
                        return self._status
                    self._wake.wait(LOOK_SECONDS if again is None else min(again, LOOK_SECONDS))
                    self._wake.clear()
            finally:
                self._end_processes()

    def _look(self) -> float | None:
        now = datetime.now(UTC)
        self._collect(now)
        decision = decide(self._observed(now), self._settings, now)
        for action in decision.actions:
            self._carry_out(action, now)
        self._anew = False
        if decision.status != self._status:
            self._status = decision.status
            document = self.document()
            self._place.save(document)
            self._told(document)
        return decision.requeue_after

    def _observed(self, now: datetime) -> Observed:
        resource = self._order.resource.model_copy(update={"status": self._status})
        facts = Observed(
            resource=resource,
            jobs=tuple(self._jobs.values()),
            terminations=self._terminations,
            stopped=frozenset(self._stopped),
            plan=self._place.plan(resource.metadata.name, self._status.plan_hash),
            claim_lost=self._anew,
            report=self._endpoint.latest,
        )
        suspend = self.interrupted or self._all_wanted_is_done(facts, now)
        spec = resource.spec.model_copy(update={"suspend": suspend or None})
        return replace(facts, resource=resource.model_copy(update={"spec": spec}))

    def _collect(self, now: datetime) -> None:
        for name, process in list(self._processes.items()):
            if self._signals > 1:
                process.stop(at_once=True)
            if (left := process.ended()) is None:
                continue
            del self._processes[name]
            succeeded = left.exit_code == ExitCode.SUCCEEDED
            self._terminations[name] = left
            self._jobs[name] = replace(
                self._jobs[name],
                state=JobState.SUCCEEDED if succeeded else JobState.FAILED,
                completion_time=to_text(now),
            )

    def _carry_out(self, action: Action, now: datetime) -> None:
        match action:
            case CreatePlan():
                self._place.pin(manifest(action, self._order.resource, self._settings))
            case CreateJob():
                self._start(action, now)
            case DeleteJob(name):
                self._stopped.add(name)
                self._processes[name].stop()
                self._jobs[name] = replace(self._jobs[name], state=JobState.DELETING)
            case _:
                # A claim is the place's directory, and one node's processes need no Service.
                return

    def _start(self, action: CreateJob, now: datetime) -> None:
        resource = self._order.resource
        job = manifest(action, resource, self._settings)
        name, pod = job["metadata"]["name"], pod_of(job)
        plan_hash = hash_for(action.plan, action.stage)
        found = mounts(
            pod,
            self._order.bindings,
            self._place.root,
            run=self._place.run_json(plan_name(resource.metadata.name, plan_hash)),
            report_token=self._endpoint.token,
        )
        if action.stage is Stage.TRAIN:
            self._endpoint.job = name
        machine = Machine(self._order.python, self._place.log(name), self._place.lock)
        process = StageProcess(pod, found, machine)
        self._place.note(process.pid)
        self._processes[name] = process
        self._jobs[name] = JobRecord(
            name=name,
            uid=name,
            owner_uid=resource.metadata.uid,
            stage=action.stage,
            attempt=action.attempt,
            plan_hash=plan_hash,
            template_hash=job["metadata"]["annotations"][ANNOTATION_TEMPLATE_HASH],
            state=JobState.RUNNING,
            start_time=to_text(now),
        )

    def _all_wanted_is_done(self, facts: Observed, now: datetime) -> bool:
        if self._order.until is None:
            return False
        # Not as status has it: what this call asks for may begin with an earlier stage.
        for entry in footing(facts, self._settings, now).status.stages:
            if self._order.leaves_out(entry.name):
                return True
            job = self._jobs.get(entry.job or "")
            done = job is not None and job.state is JobState.SUCCEEDED
            if not done and entry.state is not StageState.SUCCEEDED:
                return False
        return False

    def _rests(self) -> bool:
        return self._status.phase is Phase.SUSPENDED and not self._processes

    def _end_processes(self) -> None:
        for process in self._processes.values():
            process.stop()
        while any(process.ended() is None for process in self._processes.values()):
            time.sleep(LOOK_SECONDS)
            if self._signals > 1:
                for process in self._processes.values():
                    process.stop(at_once=True)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        def heard(number: int, frame: FrameType | None) -> None:
            self._signals += 1
            self._wake.set()

        # Whoever has it ignored (nohup, a job in the background) means that.
        heeded = [one for one in SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
        before = {number: signal.signal(number, heard) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

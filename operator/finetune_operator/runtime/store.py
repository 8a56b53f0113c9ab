"""What is known of FineTuneJobs and their Jobs: a projection of the watches, kept small.

Objects come from watches, lists and answers to our own calls, in any order; the resourceVersion
decides what is newer. No API calls, no decisions.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from finetune_operator.api.resource import FineTuneJob, Metadata
from finetune_operator.core.checkpointing import request_of, requested_at
from finetune_operator.core.facts import RunFacts, facts
from finetune_operator.core.model import JobRecord, JobState
from finetune_operator.core.queueing import queue_labels
from finetune_operator.runtime.jobs import owner_of, project
from finetune_operator.vocabulary import Stage

Json = dict[str, Any]
Key = tuple[str, str]
"""Namespace and name of a FineTuneJob."""

GONE_KEPT = 4096
_ENDED = (JobState.SUCCEEDED, JobState.FAILED)
METADATA_KEPT = frozenset(field.alias for field in Metadata.model_fields.values())


@dataclass(frozen=True, slots=True)
class RunEntry:
    """A FineTuneJob as JSON text: a tenth of the memory of the parsed models.

    `checkpoint_requested_at`: what every progress report is answered with.
    """

    uid: str
    version: int
    document: bytes
    facts: RunFacts
    checkpoint_requested_at: str | None

    def resource(self) -> FineTuneJob:
        """The parsed resource; ValueError if the models do not accept what the cluster holds."""
        return FineTuneJob.model_validate_json(self.document)

    def status(self) -> Json:
        """The status exactly as the API server has it."""
        status = json.loads(self.document).get("status", {})
        return status if isinstance(status, dict) else {}


@dataclass(frozen=True, slots=True)
class JobEntry:
    """A stage Job and the run that owns it."""

    record: JobRecord
    version: int
    run: Key


class Store:
    """The cache that decisions are made on."""

    def __init__(self) -> None:
        self._runs: dict[Key, RunEntry] = {}
        self._jobs: dict[Key, JobEntry] = {}
        # By namespace and uid: an owner lives in the namespace of what it owns.
        self._jobs_of: dict[tuple[str, str], set[Key]] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()

    def run(self, key: Key) -> RunEntry | None:
        return self._runs.get(key)

    def runs(self) -> Iterator[Key]:
        return iter(tuple(self._runs))

    def entries(self) -> Iterator[tuple[Key, RunEntry]]:
        return iter(tuple(self._runs.items()))

    def training(self) -> Iterator[tuple[Key, JobState]]:
        """The runs with a Job of training that has not ended, and its state."""
        for entry in tuple(self._jobs.values()):
            if entry.record.stage is Stage.TRAIN and entry.record.state not in _ENDED:
                yield entry.run, entry.record.state

    def uids(self) -> set[str]:
        """The uids of the FineTuneJobs."""
        return {entry.uid for entry in self._runs.values()}

    def jobs_of(self, namespace: str, uid: str) -> tuple[JobRecord, ...]:
        """The Jobs that the FineTuneJob with this uid owns in its namespace, by name."""
        owned = self._jobs_of.get((namespace, uid), ())
        return tuple(self._jobs[key].record for key in sorted(owned))

    def job(self, namespace: str, name: str) -> JobEntry | None:
        return self._jobs.get((namespace, name))

    def put_run(self, manifest: Json) -> Key | None:
        """Take in a FineTuneJob; its key if that was news."""
        metadata = manifest["metadata"]
        key, version = (metadata["namespace"], metadata["name"]), int(metadata["resourceVersion"])
        known = self._runs.get(key)
        if metadata["uid"] in self._gone or (known is not None and known.version >= version):
            return None
        self._runs[key] = RunEntry(
            metadata["uid"],
            version,
            _document(manifest),
            facts(manifest),
            requested_at(metadata.get("annotations", {})),
        )
        return key

    def drop_run(self, manifest: Json) -> Key | None:
        """Forget a deleted FineTuneJob; its key if it was known."""
        metadata = manifest["metadata"]
        key = (metadata["namespace"], metadata["name"])
        self._bury(metadata["uid"])
        known = self._runs.get(key)
        if known is None or known.uid != metadata["uid"]:
            return None
        del self._runs[key]
        return key

    def put_job(self, manifest: Json) -> Key | None:
        """Take in a Job; the key of its run if that was news."""
        metadata = manifest["metadata"]
        key, version = (metadata["namespace"], metadata["name"]), int(metadata["resourceVersion"])
        record, owner = project(manifest), owner_of(manifest)
        known = self._jobs.get(key)
        if record is None or owner is None or metadata["uid"] in self._gone:
            return None
        if known is not None and known.version >= version:
            return None
        if known is not None and known.record.uid != record.uid:
            self._remove_job(key)
        run = (metadata["namespace"], owner[0])
        self._jobs[key] = JobEntry(record, version, run)
        self._jobs_of.setdefault((key[0], record.owner_uid), set()).add(key)
        return run if known is None or known.record != record else None

    def drop_job(self, manifest: Json) -> Key | None:
        """Forget a deleted Job; the key of its run if it was known."""
        metadata = manifest["metadata"]
        return self.lose_job(metadata["namespace"], metadata["name"], metadata["uid"])

    def lose_job(self, namespace: str, name: str, uid: str) -> Key | None:
        """Forget a Job of which is known that it is gone; the key of its run if it was known."""
        self._bury(uid)
        known = self._jobs.get((namespace, name))
        if known is None or known.record.uid != uid:
            return None
        self._remove_job((namespace, name))
        return known.run

    def prune_runs(self, listed: set[str], version: int) -> list[Key]:
        """Forget the FineTuneJobs that a list of this version did not hold; their keys."""
        ghosts = [
            key
            for key, entry in self._runs.items()
            if entry.uid not in listed and entry.version <= version
        ]
        for key in ghosts:
            del self._runs[key]
        return ghosts

    def prune_jobs(self, listed: set[str], version: int) -> list[Key]:
        """Forget the Jobs that a list of this version did not hold; the keys of their runs."""
        ghosts = [
            key
            for key, entry in self._jobs.items()
            if entry.record.uid not in listed and entry.version <= version
        ]
        runs = [self._jobs[key].run for key in ghosts]
        for key in ghosts:
            self._remove_job(key)
        return runs

    def _remove_job(self, key: Key) -> None:
        entry = self._jobs.pop(key)
        owner = (key[0], entry.record.owner_uid)
        siblings = self._jobs_of[owner]
        siblings.discard(key)
        if not siblings:
            del self._jobs_of[owner]

    def _bury(self, uid: str) -> None:
        # An answer to our own POST may arrive after the watch has told of the deletion.
        self._gone[uid] = None
        if len(self._gone) > GONE_KEPT:
            self._gone.popitem(last=False)


def _document(manifest: Json) -> bytes:
    """What decisions are made on; annotations and labels alone may be larger than all of it."""
    metadata = manifest["metadata"]
    kept = {name: metadata[name] for name in metadata.keys() & METADATA_KEPT}
    if labels := kept.get("labels"):
        kept["labels"] = queue_labels(labels)
    if annotations := kept.get("annotations"):
        kept["annotations"] = request_of(annotations)
    slim = {"metadata": kept}
    slim |= {part: manifest[part] for part in ("spec", "status") if part in manifest}
    text = json.dumps(slim, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="replace")

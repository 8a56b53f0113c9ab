"""How kopf is set up: it watches and tells, and never writes to an object. No handlers here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import kopf

from finetune_operator.kube.client import PAGE
from finetune_operator.kube.resources import JOBS
from finetune_operator.runtime.kinds import OUR_JOBS


class NoDiffBase(kopf.DiffBaseStorage):
    """Keeps no copy of the last handled object: decisions compare with status."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        return None


class NoProgress(kopf.ProgressStorage):
    """Keeps no progress of handlers: there are none that could be resumed."""

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence

    def flush(self) -> None:
        return None


class Backoffs:
    """Seconds between the tries of a call; a watch that gives up is never started again."""

    def __iter__(self) -> Iterator[float]:
        yield from (0.2, 0.5, 1.0, 2.0, 5.0)
        yield from itertools.repeat(10.0)


def make() -> kopf.OperatorSettings:
    """Settings for an operator that only listens."""
    settings = kopf.OperatorSettings()
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    settings.posting.enabled = False
    settings.peering.standalone = True
    # CRDs and namespaces are not watched: fewer rights, and the resource exists at the start.
    settings.scanning.disabled = True
    settings.watching.label_selectors[JOBS.group, JOBS.version, JOBS.plural] = OUR_JOBS
    settings.watching.chunk_size = PAGE
    # Some load balancers drop quiet connections without a word: never wait for long.
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = Backoffs()
    # A worker a changed object, gone soon after: the work itself waits in our own queue.
    settings.queueing.idle_timeout = 1.0
    settings.queueing.exit_timeout = 0.5
    settings.process.ultimate_exiting_timeout = 25
    return settings

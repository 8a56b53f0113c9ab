"""Whose token it is: a bearer may report for a run only from a pod of that run's training Job.

The API server judges the token, the pod's owner tells the Job. No HTTP here.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from finetune_operator.core.naming import progress_audience
from finetune_operator.kube.client import Client
from finetune_operator.kube.errors import NotFound
from finetune_operator.kube.resources import PODS
from finetune_operator.runtime.store import JobEntry, Key, Store
from finetune_operator.vocabulary import Stage

Json = dict[str, Any]

REMEMBERED = 1024
REVIEWS_AT_ONCE = 8
GRANTED_SECONDS = 300.0
DENIED_SECONDS = 10.0
POD_NAME = "authentication.kubernetes.io/pod-name"
POD_UID = "authentication.kubernetes.io/pod-uid"


class Unauthenticated(Exception):
    """The token is not valid for this run."""


class Forbidden(Exception):
    """The token is valid, but its bearer is not a pod of this run's training."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    expires: float
    job: tuple[str, str] | None = None  # name and uid
    error: Unauthenticated | Forbidden | None = None


class Bearers:
    """Judges tokens; remembers verdicts by the token's hash, so that a report costs no call."""

    def __init__(self, client: Client, store: Store, clock: Callable[[], float]) -> None:
        self._client = client
        self._store = store
        self._clock = clock
        self._verdicts: OrderedDict[bytes, _Verdict] = OrderedDict()
        self._reviews = asyncio.Semaphore(REVIEWS_AT_ONCE)

    async def job_of(self, token: str, run: Key) -> JobEntry:
        """The training Job of this run whose pod bears the token. Unauthenticated or Forbidden."""
        digest = hashlib.sha256("\0".join((*run, token)).encode()).digest()
        verdict = self._verdicts.get(digest)
        if verdict is None or verdict.expires <= self._clock():
            async with self._reviews:
                verdict = await self._judge(token, run)
            self._verdicts[digest] = verdict
            self._verdicts.move_to_end(digest)
            if len(self._verdicts) > REMEMBERED:
                self._verdicts.popitem(last=False)
        if verdict.error is not None:
            raise verdict.error
        assert verdict.job is not None
        # Also a token that was good a minute ago is not once its Job is gone.
        entry = self._store.job(run[0], verdict.job[0])
        if entry is None or entry.record.uid != verdict.job[1] or entry.run != run:
            raise Forbidden("The training Job of this pod is not there any more.")
        return entry

    async def _judge(self, token: str, run: Key) -> _Verdict:
        namespace, name = run
        audience = progress_audience(namespace, name)
        review = await self._client.review_token(token, audience)
        now = self._clock()
        if not review.get("authenticated") or audience not in review.get("audiences", ()):
            error = Unauthenticated(f"The token is not valid for the audience {audience}.")
            return _Verdict(now + DENIED_SECONDS, error=error)
        job = await self._training_job(review.get("user", {}), run)
        if job is None:
            denied = Forbidden(f"Only pods of {name}'s training may report its progress.")
            return _Verdict(now + DENIED_SECONDS, error=denied)
        return _Verdict(now + GRANTED_SECONDS, job=job)

    async def _training_job(self, user: Json, run: Key) -> tuple[str, str] | None:
        namespace, _ = run
        extra = user.get("extra") or {}
        if not str(user.get("username", "")).startswith(f"system:serviceaccount:{namespace}:"):
            return None
        if not extra.get(POD_NAME) or not extra.get(POD_UID):
            return None
        try:
            pod = await self._client.get(PODS, namespace, extra[POD_NAME][0])
        except NotFound:
            return None
        if pod["metadata"]["uid"] != extra[POD_UID][0]:
            return None
        for owner in pod["metadata"].get("ownerReferences", ()):
            entry = self._store.job(namespace, owner["name"])
            if (
                entry is not None
                and owner.get("controller")
                and owner["uid"] == entry.record.uid
                and entry.run == run
                and entry.record.stage == Stage.TRAIN
            ):
                return entry.record.name, entry.record.uid
        return None

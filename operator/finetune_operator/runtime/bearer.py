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
from finetune_operator.runtime import claims
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


class _Verdicts:
    """The latest verdicts, by the token's hash."""

    def __init__(self) -> None:
        self._of: OrderedDict[bytes, _Verdict] = OrderedDict()

    def get(self, digest: bytes, now: float) -> _Verdict | None:
        verdict = self._of.get(digest)
        return verdict if verdict is not None and verdict.expires > now else None

    def put(self, digest: bytes, verdict: _Verdict) -> None:
        self._of[digest] = verdict
        self._of.move_to_end(digest)
        if len(self._of) > REMEMBERED:
            self._of.popitem(last=False)


class Bearers:
    """Judges tokens; remembers verdicts, so that a report costs no call.

    What was granted and what was denied is remembered apart: however many tokens somebody makes up,
    the good ones stay known.
    """

    def __init__(self, client: Client, store: Store, clock: Callable[[], float]) -> None:
        self._client = client
        self._store = store
        self._clock = clock
        self._granted, self._denied = _Verdicts(), _Verdicts()
        self._reviews = asyncio.Semaphore(REVIEWS_AT_ONCE)

    async def job_of(self, token: str, run: Key) -> JobEntry:
        """The training Job of this run whose pod bears the token. Unauthenticated or Forbidden."""
        verdict = await self._verdict(token, run)
        if verdict.error is not None:
            raise verdict.error
        assert verdict.job is not None
        # Also a token that was good a minute ago is not once its Job is gone.
        entry = self._store.job(run[0], verdict.job[0])
        if entry is None or entry.record.uid != verdict.job[1] or entry.run != run:
            raise Forbidden("The training Job of this pod is not there any more.")
        return entry

    async def _verdict(self, token: str, run: Key) -> _Verdict:
        namespace, _ = run
        known = self._store.run(run) is not None
        if not known or not claims.meant_for(token, progress_audience(*run), namespace):
            # The same answer for a run that is not there: nobody learns which runs there are.
            raise _unauthenticated(run)
        digest = hashlib.sha256("\0".join((*run, token)).encode()).digest()
        now = self._clock()
        verdict = self._granted.get(digest, now) or self._denied.get(digest, now)
        if verdict is None:
            async with self._reviews:
                verdict = await self._judge(token, run)
            (self._denied if verdict.error else self._granted).put(digest, verdict)
        return verdict

    async def _judge(self, token: str, run: Key) -> _Verdict:
        _, name = run
        audience = progress_audience(*run)
        review = await self._client.review_token(token, audience)
        now = self._clock()
        if not review.get("authenticated") or audience not in review.get("audiences", ()):
            return _Verdict(now + DENIED_SECONDS, error=_unauthenticated(run))
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
                # A Job's controller names its pods so; owners can be written by anybody.
                and extra[POD_NAME][0].startswith(f"{entry.record.name}-")
            ):
                return entry.record.name, entry.record.uid
        return None


def _unauthenticated(run: Key) -> Unauthenticated:
    return Unauthenticated(f"The token is not valid for the audience {progress_audience(*run)}.")

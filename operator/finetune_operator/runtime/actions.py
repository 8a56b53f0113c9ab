"""Carrying out a decision's actions: one API call each, so that a repetition is harmless.

Which actions, and what the objects look like, is decided in core and build.
"""

from __future__ import annotations

from typing import Any

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.build.manifests import Creation, manifest
from finetune_operator.build.workspace import workspace_claim
from finetune_operator.core import claim
from finetune_operator.core.model import (
    Action,
    CheckClaim,
    CreateClaim,
    CreateJob,
    CreatePlan,
    CreateService,
    DeleteJob,
    Refusal,
    Settings,
)
from finetune_operator.kube.client import Client
from finetune_operator.kube.errors import AlreadyExists, Conflict, Denied, Invalid, NotFound
from finetune_operator.kube.resources import CLAIMS, CONFIG_MAPS, JOBS, SERVICES
from finetune_operator.runtime import ownership
from finetune_operator.runtime.store import Store
from finetune_operator.vocabulary import RefusalReason

Json = dict[str, Any]

RESOURCE_OF = {
    CreatePlan: CONFIG_MAPS,
    CreateClaim: CLAIMS,
    CreateService: SERVICES,
    CreateJob: JOBS,
}


class Refused(Exception):
    """The action cannot be carried out as things are."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Actions:
    """Executes actions; what a call answers goes into the store at once, before the watch tells."""

    def __init__(self, client: Client, store: Store, settings: Settings) -> None:
        self._client = client
        self._store = store
        self._settings = settings

    async def carry_out(self, action: Action, resource: FineTuneJob) -> Json:
        """Do it; the object that now exists. Refused, or an ApiError that is worth a later try."""
        if isinstance(action, DeleteJob):
            return await self._delete(action, resource)
        if isinstance(action, CheckClaim):
            return await self._check(action, resource)
        body = manifest(action, resource, self._settings)
        try:
            created = await self._create(action, resource, body)
        except Denied as error:
            raise Refused(
                _refusal(RefusalReason.DENIED, body, error.message, final=False)
            ) from error
        except Invalid as error:
            raise Refused(
                _refusal(RefusalReason.INVALID, body, error.message, final=True)
            ) from error
        if isinstance(action, CreateJob):
            self._store.put_job(created)
        return created

    async def _create(self, action: Creation, resource: FineTuneJob, body: Json) -> Json:
        kind, namespace = RESOURCE_OF[type(action)], resource.metadata.namespace
        try:
            return await self._client.create(kind, namespace, body)
        except AlreadyExists:
            found = await self._client.get(kind, namespace, body["metadata"]["name"])
        taken = ownership.obstacle(found, body, resource)
        if taken is not None:
            raise Refused(taken)
        if isinstance(action, CreateClaim):
            # A default class is for claims that are new.
            return await self._serving(found, workspace_claim(resource))
        return found

    async def _check(self, action: CheckClaim, resource: FineTuneJob) -> Json:
        try:
            found = await self._client.get(CLAIMS, resource.metadata.namespace, action.name)
        except NotFound as error:
            message = f"spec.storage.claimName is {action.name}, which does not exist: create it."
            raise Refused(Refusal(RefusalReason.CLAIM_NOT_FOUND, message, final=False)) from error
        obstacle = claim.unshared(action.name, action.nodes, found["spec"])
        if obstacle is not None:
            raise Refused(Refusal(RefusalReason.CLAIM_UNFIT, obstacle, final=True))
        return found

    async def _serving(self, found: Json, wanted: Json) -> Json:
        """The claim that exists already, as large as the wanted one."""
        name, namespace = wanted["metadata"]["name"], wanted["metadata"]["namespace"]
        fit = claim.fit(name, wanted["spec"], found["spec"])
        if fit.obstacle is not None:
            raise Refused(Refusal(RefusalReason.CLAIM_UNFIT, fit.obstacle, final=True))
        if fit.grows_to is None:
            return found
        patch = {"spec": {"resources": {"requests": {"storage": fit.grows_to}}}}
        try:
            return await self._client.patch(CLAIMS, namespace, name, patch)
        except (Denied, Invalid) as error:
            message = claim.cannot_grow(name, fit.grows_to, error.message)
            raise Refused(Refusal(RefusalReason.CLAIM_CANNOT_GROW, message, final=True)) from error

    async def _delete(self, action: DeleteJob, resource: FineTuneJob) -> Json:
        # Foreground: the Job is there until its pods are gone and the volume is free.
        namespace = resource.metadata.namespace
        try:
            await self._client.delete(
                JOBS, namespace, action.name, uid=action.uid, propagation="Foreground"
            )
        except (NotFound, Conflict):
            # It is gone, or its name is another's by now. A watch that began only after that will
            # not tell.
            self._store.lose_job(namespace, action.name, action.uid)
        return {}


def _refusal(reason: RefusalReason, body: Json, message: str, *, final: bool) -> Refusal:
    what = f"{body['kind']} {body['metadata']['name']}"
    return Refusal(reason, f"The API server refused {what}: {message}", final)

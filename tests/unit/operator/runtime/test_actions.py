"""Actions that meet something that is there already."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from finetune_operator.build.manifests import manifest
from finetune_operator.core.model import CheckClaim, CreateClaim, DeleteJob, Platform
from finetune_operator.kube.client import Client
from finetune_operator.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Denied,
    Invalid,
    NotFound,
)
from finetune_operator.kube.resources import Resource
from finetune_operator.runtime.actions import Actions, Refused
from finetune_operator.runtime.store import Store
from unit.operator.builders import SETTINGS, resource
from unit.operator.runtime.manifests import job

Json = dict[str, Any]


class OneClaim(Client):
    """An API server that has this claim already."""

    def __init__(self, claim: Json, grows: ApiError | None = None) -> None:
        self.claim, self.error = claim, grows
        self.patches: list[Json] = []

    async def create(self, resource: Resource, namespace: str | None, body: Json) -> Json:
        raise AlreadyExists("exists")

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Json:
        return self.claim

    async def patch(self, resource: Resource, namespace: str, name: str, patch: Json) -> Json:
        self.patches.append(patch)
        if self.error is not None:
            raise self.error
        return self.claim


def claim(**storage: Any) -> Json:
    return manifest(CreateClaim(), resource(storage=storage), SETTINGS)


async def make(client: Client, **storage: Any) -> None:
    actions = Actions(client, Store(), SETTINGS)
    await actions.carry_out(CreateClaim(), resource(storage=storage))


async def test_a_claim_that_is_there_is_taken_as_it_is() -> None:
    client = OneClaim(claim())
    await make(client)
    assert client.patches == []


async def test_a_claim_that_is_too_small_grows() -> None:
    client = OneClaim(claim())
    await make(client, size="100Gi")
    assert client.patches == [{"spec": {"resources": {"requests": {"storage": "100Gi"}}}}]


@pytest.mark.parametrize("error", [Denied("No."), Invalid("No.")])
async def test_a_claim_that_may_not_grow_ends_the_run(error: ApiError) -> None:
    with pytest.raises(Refused, match="cannot grow to 100Gi") as caught:
        await make(OneClaim(claim(), error), size="100Gi")
    assert caught.value.refusal.final


@pytest.mark.parametrize(("nodes", "refused"), [(1, False), (2, True)])
async def test_a_claim_of_the_users_is_checked_before_anything_is_made(
    nodes: int, refused: bool
) -> None:
    actions = Actions(OneClaim(claim()), Store(), SETTINGS)
    if not refused:
        await actions.carry_out(CheckClaim("mine", nodes), resource())
        return
    with pytest.raises(Refused, match=r"spec\.resources\.nodes is 2") as caught:
        await actions.carry_out(CheckClaim("mine", nodes), resource())
    assert caught.value.refusal.final


async def test_another_default_class_changes_nothing_for_a_claim_that_is_there() -> None:
    client = OneClaim(claim(storageClassName="then"))
    settings = replace(SETTINGS, platform=Platform(storage_class="now"))
    await Actions(client, Store(), settings).carry_out(CreateClaim(), resource())
    assert client.patches == []


async def test_a_claim_of_another_class_ends_the_run() -> None:
    with pytest.raises(Refused, match="cannot become fast") as caught:
        await make(OneClaim(claim(storageClassName="slow")), storageClassName="fast")
    assert caught.value.refusal.final


class Gone(Client):
    """An API server that has no such Job."""

    def __init__(self, error: ApiError) -> None:
        self.error = error

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, propagation: str
    ) -> None:
        raise self.error


@pytest.mark.parametrize("error", [NotFound("No such Job."), Conflict("Another uid.")])
async def test_a_job_that_is_gone_when_it_is_to_be_deleted_is_known_no_more(
    error: ApiError,
) -> None:
    store = Store()
    made = job()
    store.put_job(made)
    metadata = made["metadata"]
    action = DeleteJob(metadata["name"], metadata["uid"])
    await Actions(Gone(error), store, SETTINGS).carry_out(action, resource())
    assert store.job(metadata["namespace"], metadata["name"]) is None

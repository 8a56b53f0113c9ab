"""Who may report; the API server's answers are given, as no pod of a Job can be had here."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from finetune_operator.core.naming import progress_audience
from finetune_operator.kube.client import Client
from finetune_operator.kube.errors import NotFound
from finetune_operator.kube.resources import Resource
from finetune_operator.runtime.bearer import Bearers, Forbidden, Unauthenticated
from finetune_operator.runtime.store import Store
from unit.operator.runtime.manifests import KEY, NAMESPACE, job, run

Json = dict[str, Any]
AUDIENCE = "finetune.dev/team-a/demo"


def token(
    audience: str = AUDIENCE, namespace: str = NAMESPACE, account: str = "default", **claims: Any
) -> str:
    """A service account's token as the API server would sign it."""
    claims = {"aud": [audience], "sub": f"system:serviceaccount:{namespace}:{account}", **claims}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.c2ln"


TOKEN = token()


class Answers(Client):
    """An API server's answers about one token and one pod."""

    def __init__(self) -> None:
        self.reviews = 0
        self.review: Json = {
            "authenticated": True,
            "audiences": [AUDIENCE],
            "user": {
                "username": f"system:serviceaccount:{NAMESPACE}:default",
                "extra": {
                    "authentication.kubernetes.io/pod-name": ["demo-train-1-0-abcde"],
                    "authentication.kubernetes.io/pod-uid": ["pod-1"],
                },
            },
        }
        self.owner = {"kind": "Job", "name": "demo-train-1", "uid": "job-1", "controller": True}
        self.pod_uid: str | None = "pod-1"

    async def review_token(self, token: str, audience: str) -> Json:
        self.reviews += 1
        return self.review

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Json:
        if self.pod_uid is None:
            raise NotFound("no such pod")
        return {"metadata": {"uid": self.pod_uid, "ownerReferences": [self.owner]}}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> Store:
    store = Store()
    store.put_run(run())
    store.put_job(job())
    return store


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bearers(answers: Answers, store: Store, clock: Clock) -> Bearers:
    return Bearers(answers, store, clock)


async def test_a_pod_of_the_training_job_may_report(bearers: Bearers) -> None:
    assert (await bearers.job_of(TOKEN, KEY)).record.name == "demo-train-1"


async def test_a_token_is_judged_once_in_five_minutes(
    bearers: Bearers, answers: Answers, clock: Clock
) -> None:
    for _ in range(3):
        await bearers.job_of(TOKEN, KEY)
    assert answers.reviews == 1
    clock.now = 301
    await bearers.job_of(TOKEN, KEY)
    assert answers.reviews == 2


async def test_a_verdict_holds_for_one_run_only(
    bearers: Bearers, answers: Answers, store: Store
) -> None:
    await bearers.job_of(TOKEN, KEY)
    other = (NAMESPACE, "another")
    store.put_run(run(name="another", uid="run-2"))
    both = token(aud=[AUDIENCE, progress_audience(*other)])
    await bearers.job_of(both, KEY)
    with pytest.raises(Unauthenticated):
        await bearers.job_of(both, other)
    assert answers.reviews == 3


@pytest.mark.parametrize(
    "review",
    [{}, {"authenticated": False}, {"authenticated": True, "audiences": ["another"]}],
)
async def test_a_token_that_is_not_for_this_run_is_no_credential(
    bearers: Bearers, answers: Answers, review: Json
) -> None:
    answers.review = review
    with pytest.raises(Unauthenticated, match=AUDIENCE):
        await bearers.job_of(TOKEN, KEY)


async def test_a_token_of_no_pod_is_not_enough(bearers: Bearers, answers: Answers) -> None:
    answers.review["user"]["extra"] = {}
    with pytest.raises(Forbidden):
        await bearers.job_of(TOKEN, KEY)


async def test_a_token_of_another_namespace_is_not_enough(
    bearers: Bearers, answers: Answers
) -> None:
    answers.review["user"]["username"] = "system:serviceaccount:team-b:default"
    with pytest.raises(Forbidden):
        await bearers.job_of(TOKEN, KEY)


@pytest.mark.parametrize("uid", [None, "pod-2"])
async def test_the_pod_must_still_be_the_one(
    bearers: Bearers, answers: Answers, uid: str | None
) -> None:
    answers.pod_uid = uid
    with pytest.raises(Forbidden):
        await bearers.job_of(TOKEN, KEY)


@pytest.mark.parametrize("change", [{"uid": "job-2"}, {"name": "x"}, {"controller": False}])
async def test_the_pod_must_belong_to_the_job(
    bearers: Bearers, answers: Answers, change: Json
) -> None:
    answers.owner.update(change)
    with pytest.raises(Forbidden):
        await bearers.job_of(TOKEN, KEY)


async def test_the_pod_must_be_named_after_the_job(bearers: Bearers, answers: Answers) -> None:
    answers.review["user"]["extra"]["authentication.kubernetes.io/pod-name"] = ["demo-train-10"]
    with pytest.raises(Forbidden):
        await bearers.job_of(TOKEN, KEY)


async def test_only_training_reports(bearers: Bearers, answers: Answers, store: Store) -> None:
    store.put_job(job(stage="prepare", uid="job-p"))
    answers.owner.update(name="demo-prepare-1", uid="job-p")
    with pytest.raises(Forbidden):
        await bearers.job_of(TOKEN, KEY)


async def test_a_remembered_token_ends_with_its_job(bearers: Bearers, store: Store) -> None:
    await bearers.job_of(TOKEN, KEY)
    store.drop_job(job(version=2))
    with pytest.raises(Forbidden):
        await bearers.job_of(TOKEN, KEY)


@pytest.mark.parametrize(
    ("bogus", "run_key"),
    [
        ("x", KEY),
        (token("kubernetes"), KEY),
        (token(namespace="team-b"), KEY),
        (token(), (NAMESPACE, "nobody")),
        (token(progress_audience(NAMESPACE, "nobody")), (NAMESPACE, "nobody")),
    ],
)
async def test_what_cannot_be_meant_costs_no_review(
    bearers: Bearers, answers: Answers, bogus: str, run_key: tuple[str, str]
) -> None:
    with pytest.raises(Unauthenticated, match=progress_audience(*run_key)):
        await bearers.job_of(bogus, run_key)
    assert answers.reviews == 0


async def test_tokens_that_were_made_up_do_not_push_out_the_good_ones(
    bearers: Bearers, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune_operator.runtime.bearer.REMEMBERED", 2)
    await bearers.job_of(TOKEN, KEY)
    granted, answers.review = answers.review, {}
    for number in range(5):
        with pytest.raises(Unauthenticated):
            await bearers.job_of(token(jti=str(number)), KEY)
    answers.review = granted
    reviews = answers.reviews
    await bearers.job_of(TOKEN, KEY)
    assert answers.reviews == reviews

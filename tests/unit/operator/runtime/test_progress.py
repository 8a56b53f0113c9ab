"""The endpoint as a client sees it: HTTP in, status codes and the report in memory out."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request

from finetune_operator.core.naming import progress_path
from finetune_operator.kube.errors import Transient
from finetune_operator.runtime.bearer import Bearers, Forbidden, Unauthenticated
from finetune_operator.runtime.progress import BODY_LIMIT, ProgressServer
from finetune_operator.runtime.reports import Reports
from finetune_operator.runtime.store import JobEntry, Key, Store
from finetune_operator.vocabulary import ANNOTATION_CHECKPOINT
from unit.operator.runtime.manifests import KEY, job, run

PATH = progress_path(*KEY)
BODY = {"trainerStatus": {"progressPercentage": 42}}
GOOD = {"Authorization": "Bearer good"}


class Doorman(Bearers):
    """Judges by the token's name."""

    def __init__(self, store: Store) -> None:
        self._jobs = store

    async def job_of(self, token: str, run: Key) -> JobEntry:
        if token == "foreign":
            raise Forbidden("not yours")
        if token == "unchecked":
            raise Transient("busy")
        entry = self._jobs.job(run[0], "demo-train-1")
        if token != "good" or entry is None:
            raise Unauthenticated("not valid")
        return entry


class Endpoint:
    """The endpoint and what it told."""

    def __init__(self) -> None:
        self.store, self.reports, self.changed = Store(), Reports(), list[tuple[Key, float]]()
        self.store.put_run(run())
        self.store.put_job(job())
        server = ProgressServer(
            store=self.store,
            bearers=Doorman(self.store),
            latest=self.reports,
            changed=lambda key, delay: self.changed.append((key, delay)),
        )
        self.application = server.application()


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
async def client(endpoint: Endpoint) -> AsyncIterator[TestClient[Request, Application]]:
    async with TestClient(TestServer(endpoint.application)) as client:
        yield client


async def test_a_report_is_kept_and_its_run_looked_at(
    client: TestClient[Request, Application], endpoint: Endpoint
) -> None:
    answer = await client.post(PATH, json=BODY, headers=GOOD)
    assert answer.status == 200
    report = endpoint.reports.get("run-1")
    assert report is not None
    assert (report.percent, report.job) == (42, "demo-train-1")
    assert endpoint.changed == [(KEY, 0.0)]
    assert answer.headers["Connection"] == "close"


async def test_the_answer_says_when_the_user_asked_for_a_checkpoint(
    client: TestClient[Request, Application], endpoint: Endpoint
) -> None:
    answers = []
    values = (None, "2026-01-31T12:00:00Z", "soon", "2026-01-31T12:05:00+02:00")
    for version, value in enumerate(values, start=2):
        manifest = run(version)
        manifest["metadata"]["annotations"] = {"a": "b"}
        if value is not None:
            manifest["metadata"]["annotations"][ANNOTATION_CHECKPOINT] = value
        endpoint.store.put_run(manifest)
        answers.append(await (await client.post(PATH, json=BODY, headers=GOOD)).json())
    assert answers == [
        {},
        {"checkpointRequestedAt": "2026-01-31T12:00:00Z"},
        {},
        {"checkpointRequestedAt": "2026-01-31T12:05:00+02:00"},
    ]


async def test_who_may_not_report_learns_nothing_of_the_run(
    client: TestClient[Request, Application], endpoint: Endpoint
) -> None:
    manifest = run(2)
    manifest["metadata"]["annotations"] = {ANNOTATION_CHECKPOINT: "2026-01-31T12:00:00Z"}
    endpoint.store.put_run(manifest)
    answer = await client.post(PATH, json=BODY, headers={"Authorization": "Bearer foreign"})
    assert "2026" not in await answer.text()


async def test_many_reports_are_one_look_a_second_with_the_latest(
    client: TestClient[Request, Application], endpoint: Endpoint
) -> None:
    for percent in range(5):
        body = {"trainerStatus": {"progressPercentage": percent}}
        assert (await client.post(PATH, json=body, headers=GOOD)).status == 200
    delays = [delay for _, delay in endpoint.changed]
    assert delays[0] == 0.0
    assert all(0.0 < delay <= 1.0 for delay in delays[1:])
    report = endpoint.reports.get("run-1")
    assert report is not None
    assert report.percent == 4


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        ("Basic Z29vZA==", 401),
        ("Bearer ", 401),
        ("Bearer wrong", 401),
        ("Bearer foreign", 403),
        ("Bearer unchecked", 503),
        ("bearer good", 200),
    ],
)
async def test_who_may_report(
    client: TestClient[Request, Application], authorization: str | None, status: int
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = await client.post(PATH, json=BODY, headers=headers)
    assert answer.status == status


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"no json", 422), (b"{}", 422), (b"x" * (BODY_LIMIT + 1), 413)],
)
async def test_a_body_must_be_a_report_of_bounded_size(
    client: TestClient[Request, Application], endpoint: Endpoint, body: bytes, status: int
) -> None:
    answer = await client.post(PATH, data=body, headers=GOOD)
    assert answer.status == status
    assert endpoint.changed == []


async def test_there_is_nothing_else(client: TestClient[Request, Application]) -> None:
    assert (await client.get(PATH, headers=GOOD)).status == 405
    assert (await client.get("/", headers=GOOD)).status == 404

"""Any image that keeps docs/stage-contract.md can take the trainer's place: tests/foreign does.

It fails with exit code 10 whenever a promise to a container is broken, so a run of it that gets
through is the proof that none was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from e2e.bench import Bench, Json, Stack, bench_on, condition, stage, tiny_job
from stack import hub

pytestmark = pytest.mark.timeout(300)

STEPS = 30  # longer than the ten seconds after which status tells of progress at the latest
SENTENCE_BYTES = 1024


def foreign_job(name: str, image: str, script: Json, **spec: object) -> Json:
    """A run of the foreign image, which reads in its chat template how its attempts end."""
    own: Json = {
        "model": {"source": "hf://nobody/nothing", "chatTemplate": json.dumps(script)},
        "trainer": {"image": image},
        "training": {"maxSteps": 1},
        "resources": None,
    }
    return tiny_job(name, **{**own, **spec})


@dataclass(frozen=True)
class Row:
    """A row of the contract's table: how the first attempt of a stage ends, and what follows."""

    code: int
    reason: str
    retried: bool
    stage: str = "train"
    failures: int = 1
    out_of_memory: int = 0
    words: str | None = None

    @property
    def run(self) -> str:
        return f"code-{self.code}"


TRACEBACK = "Traceback, most recent call last\n" * 200 + "The last line says why.\n"
TABLE = [
    Row(11, "Retryable", retried=True),
    Row(12, "OutOfMemory", retried=True, failures=0, out_of_memory=1),
    Row(13, "Preempted", retried=True, failures=0),
    Row(3, "Crashed", retried=True, words=TRACEBACK),
    Row(14, "NonFiniteLoss", retried=False),
    Row(10, "UserError", retried=False, stage="prepare"),
]

BABBLE = {
    "prepare": "All is well, but this is no JSON.",
    "train": json.dumps({"message": "x" * 5000, "result": {"adapter": "far"}}),
    "merge": json.dumps(["a", "list"]),
    "upload": json.dumps({"message": "long " * 700, "result": "published"}),
}


@pytest.fixture(scope="module")
def bench(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """All runs of this file, side by side, but prepared two by two: prepare asks for most CPU."""
    image = stack.cluster.image("foreign")
    secret = {"tokenSecretRef": {"name": "hf-write"}}
    dataset = {"source": "hf://nobody/nothing", "format": {"text": {}}, **secret}
    jobs = [
        *(
            foreign_job(
                row.run,
                image,
                {row.stage: [{"exit": row.code, "words": row.words}]},
                upload=None,
            )
            for row in TABLE
        ),
        foreign_job("babble", image, {verb: [{"words": BABBLE[verb]}] for verb in BABBLE}),
        foreign_job(
            "told",
            image,
            {},
            dataset=dataset,
            training={"maxSteps": STEPS},
            resources={"cpu": "250m", "memory": "128Mi"},
        ),
    ]
    with bench_on(stack.cluster, "foreign") as bench:
        for pair in zip(jobs[::2], jobs[1::2], strict=True):
            for name in [bench.apply(job) for job in pair]:
                bench.wait(name, prepared, "the end of prepare")
        yield bench
        if request.session.testsfailed:
            print(bench.describe())


def prepared(status: Json) -> bool:
    states = {found["name"]: found["state"] for found in status.get("stages", [])}
    return states.get("prepare") in ("Succeeded", "Failed")


def test_what_a_foreign_image_reports_while_it_trains_stands_on_the_resource(bench: Bench) -> None:
    resource = bench.wait_for_step("told", 1)

    progress, metrics = resource["status"]["progress"], resource["status"]["metrics"]
    step = progress["step"]
    assert 0 < step < STEPS
    assert progress["totalSteps"] == STEPS
    assert progress["percent"] == 100 * step // STEPS
    assert float(progress["epoch"]) == pytest.approx(step / STEPS)
    assert float(metrics["loss"]) == pytest.approx(1 / step)
    # A name that only this image knows.
    assert metrics["colourOfSky"] == "blue"


def test_a_foreign_image_gets_from_prepare_to_upload_and_its_last_words_stand_on_the_resource(
    bench: Bench,
) -> None:
    resource = bench.wait_for_phase("told", "Succeeded")

    status = resource["status"]
    told = {found["name"]: found["message"] for found in status["stages"]}
    assert told == {
        "prepare": "3 rows, read with a token for: dataset.",
        "train": f"{STEPS} steps, {STEPS} reports taken.",
        "merge": "Adapter and model are one.",
        "upload": "Told of acme/told.",
    }
    assert condition(resource, "Uploaded")["message"] == told["upload"]
    assert status["artifacts"] == {
        "claimName": "told-workspace",
        "adapter": "adapter",
        "merged": "merged",
        "repository": "acme/told",
        "commit": "f00d",
        "url": f"{hub.ENDPOINT}/acme/told/commit/f00d",
    }
    assert (
        status["resolved"].items()
        >= {
            "modelCommit": "c0ffee",
            "datasetCommit": "decade",
            "rows": 3,
            "tokens": 30,
            "supervisedTokens": 12,
            "totalSteps": STEPS,
            "parameters": 7,
            "trainableParameters": 2,
        }.items()
    )
    assert status["memory"] == {"estimated": "1.0Mi", "measured": "512.0Ki"}
    assert status["progress"]["display"] == {"percent": "100%", "step": f"{STEPS}/{STEPS}"}
    assert status["metrics"]["validationLoss"] == "0.5"
    assert status["metrics"]["colourOfSky"] == "blue"


@pytest.mark.parametrize(
    "row", [row for row in TABLE if row.retried], ids=lambda row: f"{row.code}-{row.reason}"
)
def test_an_exit_code_that_can_be_mended_makes_a_new_attempt_that_succeeds(
    bench: Bench, row: Row
) -> None:
    status = bench.wait_for_phase(row.run, "Succeeded")["status"]

    assert bench.jobs(row.run) == [
        f"{row.run}-{verb}" for verb in ("prepare-1", "train-1", "train-2")
    ]
    (attempt,) = status["attempts"]
    assert attempt["reason"] == row.reason
    assert attempt["exitCode"] == row.code
    entry = stage({"status": status}, "train")
    assert (entry.get("failures", 0), entry.get("outOfMemory", 0)) == (
        row.failures,
        row.out_of_memory,
    )


@pytest.mark.parametrize(
    "row", [row for row in TABLE if not row.retried], ids=lambda row: f"{row.code}-{row.reason}"
)
def test_an_exit_code_that_nothing_can_mend_fails_the_run_in_the_image_s_own_words(
    bench: Bench, row: Row
) -> None:
    resource = bench.wait_for_phase(row.run, "Failed")

    message = f"{row.stage} ends with {row.code}, as it was asked to."
    told = f"{message} Correct it and change spec.rerunToken together to go on."
    assert resource["status"]["message"] == told
    assert condition(resource, "Failed")["reason"] == row.reason
    assert condition(resource, "Failed")["message"] == told
    assert any(told in event for event in bench.events(row.run))
    assert bench.jobs(row.run)[-1] == f"{row.run}-{row.stage}-1"


def test_of_a_crash_without_json_the_last_of_many_words_are_shown(bench: Bench) -> None:
    (attempt,) = bench.wait_for_phase("code-3", "Succeeded")["status"]["attempts"]

    assert attempt["message"].startswith("train ended with exit code 3 and no explanation")
    assert attempt["message"].endswith("The last line says why.")
    assert len(attempt["message"].encode()) <= SENTENCE_BYTES


def test_a_stage_that_succeeds_and_says_no_json_or_far_too_much_has_succeeded(bench: Bench) -> None:
    status = bench.wait_for_phase("babble", "Succeeded")["status"]

    told = {found["name"]: found["message"] for found in status["stages"]}
    assert told["prepare"] == "prepare is done."
    assert told["train"] == "train is done."
    assert told["merge"] == "merge is done."
    assert told["upload"].startswith("long long")
    assert len(told["upload"].encode()) <= SENTENCE_BYTES
    assert status["artifacts"] == {"claimName": "babble-workspace"}


def test_the_foreign_image_notices_a_container_that_gets_less_or_more_than_the_contract_promises(
    bench: Bench, stack: Stack
) -> None:
    restricted = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "bare",
        "image": stack.cluster.image("foreign"),
        "args": ["train"],
        "env": [{"name": "RANK", "value": "0"}],
        "securityContext": restricted,
    }
    bench.kubectl(
        *("apply", "-f", "-"),
        input=json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "bare"},
                "spec": {"restartPolicy": "Never", "containers": [container]},
            }
        ),
    )
    bench.kubectl("wait", "pod/bare", "--for=jsonpath={.status.phase}=Failed", "--timeout=60s")

    pod = json.loads(bench.kubectl("get", "pod", "bare", "-o", "json"))
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert ended["exitCode"] == 10
    for promise in (
        "/etc/finetune/run.json is the plan",
        "/workspace is writable",
        "the root file system is read-only",
        "HF_HUB_OFFLINE is 1",
        "RANK is not set in train",
        "train has no /var/run/secrets/kubernetes.io/serviceaccount/token",
    ):
        assert promise in json.loads(ended["message"])["message"]

"""The operator installed by Helm, upgraded, rolled back and removed while a real run trains."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.handle import Cluster
from cluster.tools import Helm
from e2e.bench import Bench, Stack, stage, tiny_job
from stack import hub, operator
from unit.helm.chart import CHART

NAME = operator.DEPLOYMENT
WAIT = ("--wait", "--timeout", "180s")


@pytest.fixture
def release(bench: Bench, stack: Stack, helm: Helm) -> Iterator[Helm]:
    """A release in the place of what kustomize has installed, which comes back afterwards; `bench`
    has the cluster to itself first.
    """
    cluster = stack.cluster
    release = helm.on(cluster.kubeconfig, operator.NAMESPACE)
    take = ("--take-ownership", "--force-conflicts")
    # What an interrupted run of this test has left.
    release("uninstall", NAME, "--ignore-not-found", "--wait")
    release("install", NAME, str(CHART), *take, *WAIT, values=values(cluster))
    yield release
    release("uninstall", NAME, "--ignore-not-found", "--wait")
    operator.install(cluster, hub_endpoint=hub.ENDPOINT)


def values(cluster: Cluster, **more: object) -> dict[str, object]:
    """What the overlay of the other tests says, as values."""
    images = {}
    for name in ("operator", "trainer"):
        repository, _, tag = cluster.image(name).rpartition(":")
        images[name] = {"repository": repository, "tag": tag}
    runs = {"image": images["trainer"], "hubEndpoint": hub.ENDPOINT, "allowCpu": True}
    return {"image": images["operator"], "runs": runs, **more}


@pytest.mark.without_operator
@pytest.mark.timeout(900)
def test_training_is_not_disturbed_by_anything_that_is_done_to_the_release(
    bench: Bench, stack: Stack, release: Helm
) -> None:
    training = {"maxSteps": 1500, "sequenceLength": 128, "sequencesPerStep": 4}
    name = bench.apply(tiny_job("helm", upload=None, training=training))
    bench.wait_for_step(name, 10)
    (job,) = bench.items("jobs", f"finetune.dev/run={name},finetune.dev/stage=train")
    (pod,) = bench.items("pods", f"finetune.dev/run={name},finetune.dev/stage=train")

    newer = values(stack.cluster, podAnnotations={"example.com/revision": "2"})
    release("upgrade", NAME, str(CHART), *WAIT, values=newer)
    release("rollback", NAME, "1", *WAIT)
    release("uninstall", NAME, "--wait")
    (still,) = bench.items("pods", f"finetune.dev/run={name},finetune.dev/stage=train")
    assert still["status"]["phase"] == "Running"
    release("install", NAME, str(CHART), *WAIT, values=values(stack.cluster))
    release("test", NAME, "--timeout", "180s")
    resource = bench.wait_for_phase(name, "Succeeded", seconds=600)

    jobs = bench.items("jobs", f"finetune.dev/run={name},finetune.dev/stage=train")
    pods = bench.items("pods", f"finetune.dev/run={name},finetune.dev/stage=train")
    assert [found["metadata"]["uid"] for found in jobs] == [job["metadata"]["uid"]]
    assert [found["metadata"]["uid"] for found in pods] == [pod["metadata"]["uid"]]
    assert stage(resource, "train")["attempt"] == 1
    assert resource["status"]["progress"]["step"] == 1500

"""A real Prometheus beside a real run on a node: the page of that run shows it, with nothing else
in the cluster.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from e2e.bench import Bench, Stack, tiny_job
from integration import prometheus
from integration.prometheus import Target
from integration.watched import Watched
from integration.world import until
from stack import operator
from stack.forward import forwarded
from unit.monitoring import queries

TRAINING = {
    "maxSteps": 2000,
    "sequenceLength": 128,
    "sequencesPerStep": 4,
    "evaluateEverySteps": 20,
}
# Closed rows are about what others measure: GPUs, kubelets.
OPEN = [panel["title"] for panel in queries.board("run")["panels"] if panel["type"] != "row"]
# The test bed's GPUs are pretended: nobody knows their peak, and there are enough.
EMPTY_HERE = {"run: Share of the GPUs' peak (MFU) A", "run: Stages and attempts B"}


@pytest.fixture
def binary(promtool: Path) -> Path:
    return promtool.with_name("prometheus")


def test_the_page_of_a_run_shows_it_while_it_trains(
    bench: Bench, stack: Stack, binary: Path, tmp_path: Path
) -> None:
    name = bench.apply(tiny_job("watched", upload=None, training=TRAINING))
    bench.wait_for_step(name, 20)
    (pod,) = bench.items("pods", f"finetune.dev/run={name},finetune.dev/stage=train")
    pod_name = pod["metadata"]["name"]
    labels = {"namespace": bench.namespace, "pod": pod_name, "finetunejob": name}
    deployment = f"deployment/{operator.DEPLOYMENT}"
    of_operator = forwarded(
        stack.cluster, namespace=operator.NAMESPACE, target=deployment, port=8081
    )
    of_training = forwarded(
        stack.cluster, namespace=bench.namespace, target=f"pod/{pod_name}", port=9400
    )
    with of_operator as home, of_training as trained:
        targets = (
            Target("operator", _port(home), honor_labels=True),
            Target("runs", _port(trained), labels=labels),
        )
        since = time.time()
        with prometheus.running(binary, tmp_path, *targets) as found:
            until(lambda: found.value("sum(up)") == len(targets), "both are scraped")
            watched = Watched(found, bench.namespace, (name,), since)
            for query in queries.of_panels():
                of_page = any(query.place.startswith(f"run: {title} ") for title in OPEN)
                if of_page and query.place not in EMPTY_HERE:
                    until(partial(watched.answers, query), query.place, 60)


def _port(address: str) -> int:
    port = urlsplit(address).port
    assert port is not None
    return port

"""Every query of every dashboard and rule, executed by a real Prometheus beside real runs: none is
refused, and none is empty but those that must be.

Real are the operator, the API server that it works on, and a training that reports to it. What a
control plane cannot have, GPUs and kubelets, stands in `neighbours.py`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.handle import Cluster
from finetune_operator.vocabulary import ExitCode
from integration import neighbours, prometheus
from integration.operator_process import OperatorProcess, free_port, install, kubeconfig
from integration.prometheus import Target
from integration.reporter import Reporter, settings
from integration.trainer_process import training
from integration.watched import Watched
from integration.world import World, until
from unit.monitoring import queries
from unit.monitoring.queries import Query, Values

# They tell of trouble with the operator, or of an hour that passes; promtool's tests see them fire.
EMPTY_WHEN_ALL_IS_WELL = {
    "rule FineTuneJobCheckpointStale",
    "rule FineTuneJobStalled",
    "rule FineTuneOperatorAPIErrors",
    "rule FineTuneOperatorBlind",
    "rule FineTuneOperatorDown",
    "rule FineTuneOperatorReconcileErrors",
    "rule job:finetune_operator_api_errors:ratio_rate5m",
    "rule job:finetune_operator_reconcile_errors:ratio_rate5m",
}
# Of a CPU nobody knows the peak.
EMPTY_WITHOUT_A_GPU = {"run: Share of the GPUs' peak (MFU) A"}
EMPTY = EMPTY_WHEN_ALL_IS_WELL | EMPTY_WITHOUT_A_GPU
# On the page of one run: one that trains, one that waits, one that has failed.
SHOWN = ("demo", "queued", "broken")
PATIENCE = 90.0


@pytest.fixture(scope="module")
def watched(
    control_plane: Cluster, promtool: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    directory = tmp_path_factory.mktemp("dashboards")
    install(control_plane)
    with control_plane.namespace("dashboards") as namespace, contextlib.ExitStack() as stack:
        port, tls = free_port(), directory / "tls"
        operator = OperatorProcess(
            kubeconfig(control_plane, directory / "kubeconfig"),
            directory / "log",
            {"FINETUNE_WATCH_NAMESPACES": namespace, **settings(port, tls)},
        )
        operator.start()
        stack.callback(operator.kill)
        world = World(control_plane, namespace)
        pod = _second_attempt(world)
        around = stack.enter_context(
            neighbours.serving(neighbours.Neighbours(namespace, "demo", pod))
        )
        reporter = Reporter(control_plane, namespace, port, tls)
        trained = stack.enter_context(training(directory, reporter, namespace, "demo", pod))
        home = {"namespace": "finetune-system", "pod": "finetune-operator-0"}
        targets = (
            Target("finetune-system/finetune-operator", operator.metrics_port, True, home),
            Target("runs", trained, labels=_labels(namespace, pod)),
            Target("dcgm", around.port, labels={"namespace": "gpu", "pod": "dcgm-exporter-0"}),
            Target("kubelet", around.port, honor_labels=True),
        )
        since = time.time()
        found = stack.enter_context(
            prometheus.running(promtool.with_name("prometheus"), directory, *targets)
        )
        until(lambda: found.value("sum(up)") == len(targets), "all are scraped", PATIENCE)
        world.run("demo-train-2")
        _others(world)
        around.xid = 79
        reported = "max(finetunejob_progress_ratio) >= 0"
        until(lambda: found.value(reported) is not None, "training has reported", PATIENCE)
        yield Watched(found, namespace, SHOWN, since)


def _labels(namespace: str, pod: str) -> dict[str, str]:
    return {"namespace": namespace, "pod": pod, "container": "stage", "finetunejob": "demo"}


def _second_attempt(world: World) -> str:
    """A run whose training has run out of memory once and waits for GPUs again; its new pod."""
    world.apply("demo", resources={"gpusPerNode": 2})
    _finish(world, "demo-prepare-1", message="Done.", totalSteps=1_000_000)
    _finish(world, "demo-train-1", code=ExitCode.OUT_OF_MEMORY, message="Out of memory.")
    world.wait_for_job("demo-train-2", PATIENCE)
    return world.wait_for_pod("demo-train-2")


def _others(world: World) -> None:
    """Runs that fail in every way that an alert is about, and one that waits."""
    world.apply("queued", resources={"gpusPerNode": 4})
    _finish(world, "queued-prepare-1", message="Done.")
    world.wait_for_job("queued-train-1", PATIENCE)
    world.apply("broken")
    _finish(world, "broken-prepare-1", code=ExitCode.USER_ERROR, message="No such column.")
    world.apply("diverged", resources={"gpusPerNode": 1})
    _finish(world, "diverged-prepare-1", message="Done.")
    world.wait_for_job("diverged-train-1", PATIENCE)
    world.run("diverged-train-1")
    _finish(world, "diverged-train-1", code=ExitCode.NON_FINITE_LOSS, message="Not finite.")
    world.apply("unpublished")
    for stage in ("prepare", "train", "merge"):
        _finish(world, f"unpublished-{stage}-1", message="Done.")
    _finish(world, "unpublished-upload-1", code=ExitCode.USER_ERROR, message="Not allowed.")
    for run in ("broken", "diverged", "unpublished"):
        world.wait_for_phase(run, "Failed", PATIENCE)


def _finish(world: World, job: str, code: int = 0, **told: Any) -> None:
    world.wait_for_job(job, PATIENCE)
    world.finish(job, code, **told)


def tells(watched: Watched, query: Query) -> None:
    if query.place in EMPTY:
        until(lambda: not watched.answers(query), f"{query.place} is empty", 30)
        return
    until(lambda: watched.answers(query), f"{query.place}: {query.expr}", 30)


@pytest.mark.parametrize("query", [*queries.of_panels()], ids=str)
def test_every_panel_shows_something(watched: Watched, query: Query) -> None:
    tells(watched, query)


@pytest.mark.parametrize("query", [*queries.of_marks()], ids=str)
def test_every_mark_is_set_once_there_is_a_reason(watched: Watched, query: Query) -> None:
    tells(watched, query)


@pytest.mark.parametrize("query", [*queries.of_rules()], ids=str)
def test_every_rule_has_something_to_record_or_to_tell(watched: Watched, query: Query) -> None:
    tells(watched, query)


@pytest.mark.parametrize("values", [*queries.of_variables()], ids=str)
def test_every_variable_has_values_to_choose(watched: Watched, values: Values) -> None:
    until(lambda: watched.choices(values), f"values of {values.label}")


def test_what_is_empty_when_all_is_well_reads_series_that_are_there(watched: Watched) -> None:
    recorded = {query.place for query in queries.of_rules()}
    for query in queries.of_rules():
        for name in queries.metrics(query.expr) if query.place in EMPTY else ():
            if f"rule {name}" not in recorded:
                assert watched.prometheus.value(f"count({name})"), name


def test_what_must_be_empty_is_there() -> None:
    places = {query.place for query in (*queries.of_panels(), *queries.of_rules())}
    assert places >= EMPTY


def test_a_mark_stands_where_the_new_attempt_begins(watched: Watched) -> None:
    (mark,) = (query for query in queries.of_marks() if query.place == "run: marks Attempts")
    found = [series["metric"] for series in watched.series(mark, "demo")]
    assert {"stage": "train", "attempt": "2"} in found


def test_a_query_that_prometheus_does_not_understand_is_seen(watched: Watched) -> None:
    with pytest.raises(prometheus.QueryError, match="parse error"):
        watched.answers(Query("", "sum by (finetune_runs"))

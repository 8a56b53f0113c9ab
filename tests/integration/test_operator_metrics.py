"""The operator's own /metrics while it works on a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from cluster.handle import Cluster
from integration import prometheus
from integration.operator_process import OperatorProcess, install, kubeconfig
from integration.world import World, until
from unit.operator.runtime.scraped import Series, of, series


class Scraped:
    """An operator that serves one namespace, and what it says of itself."""

    def __init__(self, world: World, operator: OperatorProcess) -> None:
        self.world = world
        self.operator = operator

    def scrape(self) -> dict[Series, float]:
        with urlopen(f"http://127.0.0.1:{self.operator.metrics_port}/metrics") as answer:
            return series(answer.read().decode())

    def metric(self, name: str) -> dict[tuple[str, ...], float]:
        return of(self.scrape(), name)


@pytest.fixture
def scraped(control_plane: Cluster, tmp_path: Path) -> Iterator[Scraped]:
    install(control_plane)
    with control_plane.namespace("metrics") as namespace:
        operator = OperatorProcess(
            kubeconfig(control_plane, tmp_path / "kubeconfig"),
            tmp_path / "log",
            {"FINETUNE_WATCH_NAMESPACES": namespace},
        )
        operator.start()
        yield Scraped(World(control_plane, namespace), operator)
        operator.kill()


def test_a_run_is_counted_while_it_is_there_and_its_stages_when_they_end(
    scraped: Scraped,
) -> None:
    world = scraped.world
    here = world.namespace
    world.apply("demo", resources={"gpusPerNode": 2})
    world.wait_for_phase("demo", "Preparing")
    until(
        lambda: scraped.metric("finetune_runs") == {(here, "Preparing"): 1}, "a run that prepares"
    )
    world.finish("demo-prepare-1", message="Done.", totalSteps=200)
    world.wait_for_job("demo-train-1")
    waiting = {(here, "Waiting"): 2.0}
    until(lambda: scraped.metric("finetune_gpus") == waiting, "two GPUs are waited for")
    ended = {(here, "Succeeded", "prepare"): 1.0}
    until(lambda: scraped.metric("finetune_attempts_total") == ended, "prepare has ended")
    found = scraped.scrape()
    durations = of(found, "finetune_stage_duration_seconds_count")
    assert durations["Succeeded", "prepare"] == sum(durations.values()) == 1
    assert of(found, "finetunejob_attempts_left") == {("demo", here): 2}
    assert of(found, "finetune_operator_watches") == {(): 2}
    assert of(found, "finetune_operator_watches_live") == {(): 2}
    assert of(found, "finetune_operator_last_resync_timestamp_seconds")[()] > 0
    assert of(found, "finetune_operator_api_requests_total")["201", "jobs", "create"] == 2
    assert of(found, "finetune_operator_reconciles_total")[("Done",)] > 0
    world.delete("demo")
    until(
        lambda: not [name for name, _ in scraped.scrape() if name.startswith("finetunejob_")],
        "its series are gone",
    )


def test_a_restart_counts_nothing_twice(scraped: Scraped) -> None:
    world = scraped.world
    world.apply("demo")
    world.finish("demo-prepare-1", message="Done.", totalSteps=200)
    world.wait_for_job("demo-train-1")
    ended = {(world.namespace, "Succeeded", "prepare"): 1.0}
    until(lambda: scraped.metric("finetune_attempts_total") == ended, "prepare has ended")
    scraped.operator.kill()
    scraped.operator.start()
    until(
        lambda: scraped.metric("finetune_operator_reconciles_total").get(("Done",)), "it has looked"
    )
    assert scraped.metric("finetune_attempts_total") == {}


def test_a_real_prometheus_reads_it_and_evaluates_every_rule(
    scraped: Scraped, promtool: Path, tmp_path: Path
) -> None:
    world = scraped.world
    world.apply("demo", resources={"gpusPerNode": 2})
    world.finish("demo-prepare-1", message="Done.", totalSteps=200)
    world.wait_for_job("demo-train-1")
    binary = promtool.with_name("prometheus")
    target = prometheus.Target("operator", scraped.operator.metrics_port, honor_labels=True)
    with prometheus.running(binary, tmp_path, target) as found:
        here = f'namespace="{world.namespace}", state="Waiting"'
        waiting = f"namespace_state:finetune_gpus:sum{{{here}}}"
        until(lambda: found.value(waiting) == 2, "a recorded count of the GPUs waited for")
        until(
            lambda: all(rule["health"] == "ok" for rule in found.rules().values()),
            "every rule was evaluated",
        )
        until(
            lambda: found.rules()["FineTuneJobGPUsWaiting"]["state"] == "pending",
            "an alert on GPUs is due in half an hour",
        )
        until(lambda: others(found) == {"inactive"}, "no other alert has a reason")


def others(found: prometheus.Prometheus) -> set[str]:
    """The states of all alerts but that on GPUs that are waited for."""
    rules = found.rules()
    del rules["FineTuneJobGPUsWaiting"]
    return {rule["state"] for rule in rules.values() if rule["type"] == "alerting"}

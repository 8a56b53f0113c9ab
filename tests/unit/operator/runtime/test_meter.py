"""What the operator counts, and that Prometheus' rules for names are kept."""

from __future__ import annotations

import re

from finetune_operator.api.status import Status
from finetune_operator.core.model import Observed, Termination
from finetune_operator.kube.client import Call
from finetune_operator.runtime.meter import Meter
from unit.operator.builders import job, later, resource
from unit.operator.runtime.scraped import of, scrape


def status(state: str, **fields: object) -> Status:
    entry = {"name": "train", "state": state, "attempt": 1, "job": "demo-train-1"}
    return Status.model_validate(
        {"startTime": "2026-01-31T12:00:00Z", "stages": [{**entry, **fields}]}
    )


def test_gpu_seconds_are_those_of_all_nodes_while_the_pods_ran() -> None:
    meter = Meter()
    started, ended = "2026-01-31T12:00:00Z", "2026-01-31T12:10:00Z"
    run = resource(
        status=status("Running", startTime=started), resources={"nodes": 2, "gpusPerNode": 4}
    )
    observed = Observed(
        resource=run,
        jobs=(job("train", start_time=started, completion_time=ended),),
        terminations={"demo-train-1": Termination(0, started_at="2026-01-31T12:09:00Z")},
    )
    done = status("Succeeded", startTime=started, completionTime=ended)
    meter.written(run, done, observed, later(999))
    found = scrape(meter.registry)
    assert of(found, "finetune_gpu_seconds_total") == {("team-a", "Succeeded"): 8 * 60}
    assert of(found, "finetune_attempts_total") == {("team-a", "Succeeded", "train"): 1}
    durations = of(found, "finetune_stage_duration_seconds_sum")
    assert durations["Succeeded", "train"] == sum(durations.values()) == 600


def test_calls_and_looks_are_counted_by_how_they_ended() -> None:
    meter = Meter()
    meter.called(Call("get", "jobs", 503, 0.1))
    meter.called(Call("get", "jobs", 200, 0.1))
    meter.looked("Done", 0.01)
    meter.looked("Conflict", 0.01)
    found = scrape(meter.registry)
    assert of(found, "finetune_operator_api_requests_total") == {
        ("200", "jobs", "get"): 1,
        ("503", "jobs", "get"): 1,
    }
    assert of(found, "finetune_operator_reconciles_total") == {("Done",): 1, ("Conflict",): 1}
    assert of(found, "finetune_operator_reconcile_duration_seconds_count") == {(): 2}


def test_watches_and_queue_are_asked_at_the_scrape() -> None:
    meter, dead = Meter(), ["jobs.v1.batch@None"]
    meter.follow(depth=lambda: 3, expected=2, missing=lambda: dead)
    found = scrape(meter.registry)
    assert of(found, "finetune_operator_queue_depth") == {(): 3}
    assert of(found, "finetune_operator_watches") == {(): 2}
    assert of(found, "finetune_operator_watches_live") == {(): 1}
    dead.clear()
    assert of(scrape(meter.registry), "finetune_operator_watches_live") == {(): 2}


def test_names_and_help_texts_follow_the_rules() -> None:
    for family in Meter().registry.collect():
        assert re.fullmatch(r"(finetune|process)_[a-z_]+", family.name), family.name
        assert family.documentation, family.name
        assert not re.search(r"minutes|hours|milli|percent", family.name), family.name


def test_no_histogram_tells_runs_or_namespaces_apart() -> None:
    meter = Meter()
    meter.called(Call("get", "jobs", 200, 0.1))
    for family in meter.registry.collect():
        if family.type == "histogram":
            labels = {name for sample in family.samples for name in sample.labels}
            assert labels <= {"le", "verb", "stage", "outcome"}, family.name


def test_counters_of_a_namespace_start_at_zero_before_anything_ends() -> None:
    meter = Meter()
    meter.know("team-a")
    assert of(scrape(meter.registry), "finetune_gpu_seconds_total") == {
        ("team-a", "Failed"): 0,
        ("team-a", "Stopped"): 0,
        ("team-a", "Succeeded"): 0,
    }


def test_durations_of_stages_start_at_zero_before_any_ends() -> None:
    found = of(scrape(Meter().registry), "finetune_stage_duration_seconds_count")
    assert {labels for labels, count in found.items() if count == 0} == {
        (outcome, stage)
        for outcome in ("Succeeded", "Failed")
        for stage in ("prepare", "train", "merge", "upload")
    }

"""The dashboards as they are shipped: up to date, readable, and about metrics that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from finetune_dashboards import __main__ as generator
from unit.monitoring import generated, queries
from unit.monitoring.queries import NAMES, Query

Json = dict[str, Any]
ROWS = [(name, panel) for name in NAMES for panel in queries.panels(name)]
EVERY = [*queries.of_panels(), *queries.of_marks()]
# What others serve: the DCGM exporter, kubelets, Prometheus itself.
OF_OTHERS = {
    "ALERTS",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_GPU_TEMP",
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_XID_ERRORS",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
    "container_cpu_usage_seconds_total",
    "container_memory_working_set_bytes",
    "kubelet_volume_stats_capacity_bytes",
    "kubelet_volume_stats_used_bytes",
}
OF_THE_PROCESS = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
}
# Served, and for queries of one's own: no panel or rule reads them.
UNREAD = {
    "finetune_train_epoch",
    "finetune_train_planned_steps",
    "finetune_train_remaining_seconds",
}


def of_panel(row: tuple[str, Json]) -> str:
    return f"{row[0]}: {row[1]['title']}"


def test_the_files_are_what_the_code_makes(tmp_path: Path) -> None:
    generator.main(tmp_path)
    for name in NAMES:
        made = (tmp_path / f"{name}.json").read_text()
        assert (queries.DASHBOARDS / f"{name}.json").read_text() == made, "run make dashboards"


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_can_be_provisioned_anywhere(name: str) -> None:
    made = queries.board(name)
    assert made["uid"] == f"finetune-{name}"
    assert made["editable"] is False
    assert "finetune" in made["tags"]
    assert "__inputs" not in made
    assert made["templating"]["list"][0]["type"] == "datasource"
    # With the annotation that `kubectl apply` adds, an object must stay within 256 KiB.
    assert (queries.DASHBOARDS / f"{name}.json").stat().st_size < 100_000


@pytest.mark.parametrize("row", ROWS, ids=of_panel)
def test_a_panel_says_what_it_shows_and_in_which_unit(row: tuple[str, Json]) -> None:
    _, panel = row
    assert panel["title"]
    assert panel["description"].endswith((".", "`"))
    assert panel["datasource"]["uid"] in ("${datasource}", "${loki}")
    assert panel["targets"]
    if panel["type"] not in ("table", "logs"):
        assert panel["fieldConfig"]["defaults"]["unit"]


@pytest.mark.parametrize("name", NAMES)
def test_panels_stand_side_by_side_and_fill_the_page(name: str) -> None:
    made = queries.board(name)["panels"]
    for group in ([p for p in made if p["type"] != "row"], *(p.get("panels", ()) for p in made)):
        lines: dict[int, list[Json]] = {}
        for panel in group:
            lines.setdefault(panel["gridPos"]["y"], []).append(panel["gridPos"])
        for places in lines.values():
            ends = [place["x"] + place["w"] for place in places]
            assert [place["x"] for place in places] == [0, *ends[:-1]]
            assert len({place["h"] for place in places}) == 1
            assert ends[-1] == 24
    numbers = [panel["id"] for panel in (*made, *(p for m in made for p in m.get("panels", ())))]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("query", EVERY, ids=str)
def test_a_query_is_about_metrics_that_are_served(query: Query) -> None:
    recorded = {rule["record"] for rule in generated.rules() if "record" in rule}
    known = generated.exposed() | recorded | OF_OTHERS | OF_THE_PROCESS
    found = queries.metrics(query.expr)
    assert found
    assert found - known == set()


@pytest.mark.parametrize("query", EVERY, ids=str)
def test_a_rate_is_taken_over_what_grafana_finds_right(query: Query) -> None:
    windows = re.findall(r"\[([^\]]+)\]", re.sub(r"\"[^\"]*\"", "", query.expr))
    assert set(windows) <= {"$__rate_interval", "$__range"}
    for counter in re.findall(r"\b\w+_total\b", query.expr):
        assert re.search(r"rate\(|increase\(|offset|max\(", query.expr), counter


@pytest.mark.parametrize("name", NAMES)
def test_marks_can_be_read_by_older_and_newer_grafanas(name: str) -> None:
    marks = queries.board(name)["annotations"]["list"]
    assert marks
    for mark in marks:
        assert mark["expr"] == mark["target"]["expr"]
        assert mark["enable"]
        # Milliseconds, where the value is the time.
        assert mark["useValueForTime"] == mark["expr"].endswith("* 1000")


def test_every_metric_is_on_a_dashboard_or_in_a_rule() -> None:
    read = {name for query in (*EVERY, *queries.of_rules()) for name in queries.metrics(query.expr)}
    read |= {
        name for variable in queries.of_variables() for name in queries.metrics(variable.series)
    }
    families = {family.name for family in (*generated.of_operator(), *generated.of_trainer())}
    unread = {name for name in families if not any(found.startswith(name) for found in read)}
    assert unread == UNREAD


def test_links_lead_from_the_fleet_to_the_run_and_from_there_to_the_logs() -> None:
    tables = [panel for panel in queries.panels("fleet") if panel["type"] == "table"]
    for panel in tables:
        (links,) = (
            each["value"]
            for override in panel["fieldConfig"]["overrides"]
            for each in override["properties"]
            if each["id"] == "links"
        )
        assert links[0]["url"].startswith(
            "/d/finetune-run?var-namespace=${__data.fields.Namespace}&var-run=${__data.fields.Run}&"
        )
    addresses = [link["url"] for link in queries.board("run")["links"] if link.get("url")]
    assert any(address.startswith("/explore?") and "${loki}" in address for address in addresses)


def test_the_reader_of_queries_finds_every_metric() -> None:
    text = 'sum by (a_b) (rate(x_total{c_d="e_f"}[5m])) / on (g_h) group_left (i_j) k:l_m:n > 0'
    assert queries.metrics(text) == {"x_total", "k:l_m:n"}

"""Rules, alerts, runbooks and the page of metrics: what code, or Prometheus, can contradict."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from unit.monitoring import generated

ALERTS = [rule for rule in generated.rules() if "alert" in rule]
TESTS = sorted(Path(__file__).with_name("alerts").glob("*.yaml"))
RUNBOOKS = generated.ROOT / "docs" / "runbooks"


def promtool_says(promtool: Path, *arguments: str) -> tuple[int, str]:
    ended = subprocess.run([str(promtool), *arguments], capture_output=True, text=True)
    return ended.returncode, ended.stdout + ended.stderr


def test_prometheus_understands_every_rule(promtool: Path) -> None:
    code, said = promtool_says(promtool, "check", "rules", "--lint=all", str(generated.RULES))
    assert code == 0, said


def test_alerts_fire_when_they_should_and_only_then(promtool: Path) -> None:
    code, said = promtool_says(promtool, "test", "rules", *map(str, TESTS))
    assert code == 0, said


@pytest.mark.parametrize("alert", [rule["alert"] for rule in ALERTS])
def test_every_alert_is_seen_firing_and_not_firing(alert: str) -> None:
    cases = [case for file in TESTS for case in yaml.safe_load(file.read_text())["tests"]]
    fires = {
        bool(each["exp_alerts"])
        for case in cases
        for each in case["alert_rule_test"]
        if each["alertname"] == alert
    }
    assert fires == {True, False}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_says_how_bad_it_is_and_leads_to_its_runbook(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    page = RUNBOOKS / f"{rule['alert']}.md"
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{page.name}"
    headings = re.findall(r"^##? (.+)$", page.read_text(), re.MULTILINE)
    assert headings == [rule["alert"], "Meaning", "Impact", "Diagnosis", "Mitigation"]


def test_every_runbook_has_its_alert() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == {rule["alert"] for rule in ALERTS}


def test_every_metric_that_a_rule_names_is_served_or_recorded() -> None:
    recorded = {rule["record"] for rule in generated.rules() if "record" in rule}
    for rule in generated.rules():
        words = set(re.findall(r"[a-z_:]*finetune[a-z0-9_:]*", rule["expr"])) - {"finetunejob"}
        assert words - generated.exposed() - recorded == set(), rule


def test_recordings_are_named_by_level_metric_and_operation() -> None:
    for rule in generated.rules():
        if "record" in rule:
            assert re.fullmatch(r"[a-z_]+:[a-z_]+:[a-z0-9_]+", rule["record"])


def test_the_prometheus_rule_and_the_tables_are_up_to_date() -> None:
    assert generated.WRAPPED.read_text() == generated.wrapped(), "run make monitoring"
    wrapped = yaml.safe_load(generated.wrapped())
    assert wrapped["spec"] == yaml.safe_load(generated.RULES.read_text())
    assert generated.PAGE.read_text() == generated.page(generated.PAGE.read_text())

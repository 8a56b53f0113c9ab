from __future__ import annotations

from finetune_operator.core.model import Report
from finetune_operator.runtime.reports import Reports
from unit.operator.builders import NOW

REPORT = Report(job="j", received_at=NOW)


def test_reports_of_runs_that_are_gone_are_forgotten() -> None:
    reports = Reports()
    reports.put("a", REPORT, 0.0)
    reports.keep_only({"b"})
    assert reports.get("a") is None


def test_however_many_reports_a_run_is_looked_at_once_a_second() -> None:
    reports = Reports()
    looks = [round(now + reports.put("a", REPORT, now), 3) for now in (5.0, 5.3, 5.9, 6.1, 9.0)]
    assert looks == [5.0, 6.0, 6.0, 7.0, 9.0]
    assert reports.put("b", REPORT, 9.0) == 0.0

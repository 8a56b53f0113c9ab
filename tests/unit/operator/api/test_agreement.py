"""Schema, rules and pydantic say the same of every spec; the integration test asks the server."""

from __future__ import annotations

import pytest

from finetune_operator.api.spec import RUN_DEFINING, Spec
from unit.operator.api import bounds, offline, started
from unit.operator.api.bad_specs import BAD
from unit.operator.api.good_specs import GOOD
from unit.operator.api.jobs import Case

# What training is not told of.
KEEPING = ("merge", "upload")
_RULE_MESSAGES = {rule["message"] for rule in offline.rules()}


def _rule_of(case: Case) -> str | None:
    said = case.message.rpartition("Forbidden: ")[2]
    return next((message for message in _RULE_MESSAGES if said and said in message), None)


@pytest.mark.parametrize("case", GOOD, ids=str)
def test_a_good_spec_is_accepted(case: Case) -> None:
    assert offline.refusals(case.job) == []


@pytest.mark.parametrize("case", [c for c in BAD if "spec" in c.job], ids=str)
def test_a_bad_spec_is_refused_with_its_rule(case: Case) -> None:
    refusals = offline.refusals(case.job)
    assert refusals
    if rule := _rule_of(case):
        assert rule in offline.rule_errors(case.job)


@pytest.mark.parametrize("case", list(bounds.bad()), ids=str)
def test_pydantic_refuses_what_the_schema_does_not_hold(case: Case) -> None:
    assert offline.schema_errors(case.job["spec"])


@pytest.mark.parametrize("case", list(bounds.edges()), ids=str)
def test_the_edge_of_a_bound_is_accepted(case: Case) -> None:
    assert offline.refusals(case.job) == []


@pytest.mark.parametrize("change", started.REFUSED, ids=str)
def test_what_defines_a_started_run_may_not_change(change: started.Change) -> None:
    assert offline.refusals(change.new, old=change.old) == [
        f"spec.{name} may not change after the run has started: create a FineTuneJob with a new "
        "name, or change spec.rerunToken together with it; "
        + ("what is trained is kept" if name in KEEPING else "the run starts over where it has to")
        for name in change.fields
    ]


@pytest.mark.parametrize("change", started.ALLOWED, ids=str)
def test_what_does_not_define_the_run_may_change(change: started.Change) -> None:
    assert offline.refusals(change.new, old=change.old) == []


def test_every_rule_has_a_case_that_breaks_it() -> None:
    broken = {message for case in BAD for message in [_rule_of(case)] if message}
    fixed = {m for m in _RULE_MESSAGES if "may not change after the run has started" in m}
    assert _RULE_MESSAGES - fixed - broken == set()


def test_every_field_is_either_fixed_after_start_or_known_to_be_free() -> None:
    free = {"suspend", "scheduling", "rerun_token", "run_policy"}
    assert set(Spec.model_fields) == {*RUN_DEFINING, *free}


def test_every_run_defining_field_has_a_refused_change() -> None:
    assert {name for change in started.REFUSED for name in change.fields} == set(RUN_DEFINING)

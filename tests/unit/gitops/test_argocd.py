"""Argo CD's customizations, by their own test files, in Argo CD's Lua with its restrictions.

The files have Argo CD's format: `inputPath`, `healthStatus`, `result`, `expectedOutputPath`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.tools import GitOps, ToolError
from finetune_operator.core.checkpointing import requested_at
from finetune_operator.vocabulary import ANNOTATION_CHECKPOINT
from unit.gitops import phases
from unit.gitops.argocd import (
    ACTIONS,
    ARGOCD,
    BLOCKING,
    NON_BLOCKING,
    VARIANTS,
    Json,
    generated,
    read,
)

GENERATED = dict(generated())
ACTION_TESTS = read(ACTIONS / "action_test.yaml")
HEALTH_TESTS = [
    (folder, test)
    for folder in (BLOCKING, NON_BLOCKING)
    for test in read(folder / "health_test.yaml")["tests"]
]


def _case(value: Any) -> str:
    return value.parents[1].name if isinstance(value, Path) else Path(value["inputPath"]).stem


def restored(made: Any, before: Any) -> Any:
    """What Argo CD does with a script's output: Lua does not know {} from []."""
    if isinstance(made, dict) and isinstance(before, dict):
        return {key: restored(value, before.get(key)) for key, value in made.items()}
    if isinstance(made, list) and isinstance(before, list):
        pairs = zip(made, before, strict=False)
        return [*(restored(*pair) for pair in pairs), *made[len(before) :]]
    return {} if made == [] and isinstance(before, dict) else made


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_what_is_made_from_other_files_is_up_to_date(path: Path) -> None:
    assert path.read_text() == GENERATED[path], "run `make argocd`"


@pytest.mark.parametrize(("folder", "test"), HEALTH_TESTS, ids=_case)
def test_health_is_what_its_test_file_says(gitops: GitOps, folder: Path, test: Json) -> None:
    script = (folder / "health.lua").read_text()
    assert gitops.lua(script, read(folder / test["inputPath"])) == test["healthStatus"]


@pytest.mark.parametrize("folder", [BLOCKING, NON_BLOCKING], ids=_case)
def test_every_state_of_a_run_has_a_health_test(folder: Path) -> None:
    tested = [Path(test["inputPath"]).stem for where, test in HEALTH_TESTS if where == folder]
    assert sorted(tested) == sorted(phases.NAMES)


@pytest.mark.parametrize("test", ACTION_TESTS["discoveryTests"], ids=_case)
def test_a_person_is_offered_what_makes_sense_now(gitops: GitOps, test: Json) -> None:
    script = (ACTIONS / "discovery.lua").read_text()
    offered = gitops.lua(script, read(ACTIONS / test["inputPath"])) or {}
    found = {name: {"name": name, **shown} for name, shown in dict(offered).items()}
    # As Argo CD leaves it out.
    for shown in found.values():
        if not shown.get("disabled"):
            shown.pop("disabled", None)
    assert found == {shown["name"]: shown for shown in test["result"]}


@pytest.mark.parametrize("test", ACTION_TESTS["actionTests"], ids=lambda test: test["action"])
def test_an_action_changes_what_its_test_file_says(gitops: GitOps, test: Json) -> None:
    script = (ACTIONS / test["action"] / "action.lua").read_text()
    before = read(ACTIONS / test["inputPath"])
    made = restored(gitops.lua(script, before), before)
    if test["action"] == "retry":
        assert re.fullmatch(r"retry-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made["spec"]["rerunToken"])
        made["spec"]["rerunToken"] = "retry-2026-01-31T12:00:00Z"
    if test["action"] == "checkpoint":
        # What the operator takes for a time is one.
        assert requested_at(made["metadata"]["annotations"])
        made["metadata"]["annotations"][ANNOTATION_CHECKPOINT] = "2026-01-31T12:00:00Z"
    assert made == read(ACTIONS / test["expectedOutputPath"])


def test_every_action_is_offered_somewhere_and_tested() -> None:
    scripts = {path.parent.name for path in ACTIONS.glob("*/action.lua")}
    offered = {shown["name"] for test in ACTION_TESTS["discoveryTests"] for shown in test["result"]}
    assert scripts == offered == {test["action"] for test in ACTION_TESTS["actionTests"]}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_config_map_holds_the_same_scripts(name: str) -> None:
    settings = read(ARGOCD / name)["data"]
    health = settings["resource.customizations.health.finetune.dev_FineTuneJob"]
    assert health == (VARIANTS[name] / "health.lua").read_text()
    actions = yaml.safe_load(settings["resource.customizations.actions.finetune.dev_FineTuneJob"])
    assert actions["discovery.lua"] == (ACTIONS / "discovery.lua").read_text()
    names = [entry["name"] for entry in actions["definitions"]]
    assert names == ["checkpoint", "resume", "retry", "suspend"]


@pytest.mark.parametrize("library", ["string", "math", "io", "debug", "coroutine", "os.execute"])
def test_scripts_have_no_more_than_argo_cd_gives_them(gitops: GitOps, library: str) -> None:
    assert gitops.lua(f"return {{missing = {library} == nil}}", {}) == {"missing": True}


def test_a_script_that_does_not_end_is_stopped(gitops: GitOps) -> None:
    with pytest.raises(ToolError, match="deadline exceeded"):
        gitops.lua("while true do end", {})

"""The same objects in each form, and an order that nobody can get wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_cli.errors import CliError
from finetune_cli.exported import Export, exported
from finetune_cli.show.export import list_of, script_of, yaml_of
from unit.cli.calls import SAMPLE
from unit.cli.test_exported import SETTINGS, document, export

Json = dict[str, Any]


def documents(export: Export) -> list[Json]:
    return list(yaml.safe_load_all(yaml_of(export)))


def test_only_the_first_job_starts_by_itself() -> None:
    jobs = [item for item in documents(export()) if item["kind"] == "Job"]
    assert [job["spec"].get("suspend", False) for job in jobs] == [False, True, True, True]


def test_a_run_that_is_to_be_suspended_starts_nothing() -> None:
    jobs = [item for item in documents(export(suspend=True)) if item["kind"] == "Job"]
    assert {job["spec"]["suspend"] for job in jobs} == {True}


def test_objects_come_before_those_that_need_them() -> None:
    kinds = [item["kind"] for item in documents(export())]
    assert kinds == ["PersistentVolumeClaim", "ConfigMap", "Job", "Job", "Job", "Job"]


def test_yaml_and_the_list_hold_the_same() -> None:
    assert list_of(export())["items"] == documents(export())


def test_the_plan_can_be_read_in_the_file_and_comes_out_as_it_was() -> None:
    run = {"chatTemplate": "{% for m in messages %}\n'{{ m }}'\n{% endfor %}"}
    found = export(model={"source": "hf://acme/base", **run})
    (plan,) = (item for item in documents(found) if item["kind"] == "ConfigMap")
    assert plan["data"] == found.besides[1]["data"]
    assert json.loads(plan["data"]["run.json"])["model"]["chatTemplate"] == run["chatTemplate"]
    assert "  run.json: |-\n" in yaml_of(found)


def test_the_script_holds_the_same_objects_and_suspends_none() -> None:
    found = export()
    parts = re.findall(r"<<'EOF'\n(.*?)^EOF$", script_of(found), re.DOTALL | re.MULTILINE)
    objects = [item for part in parts for item in yaml.safe_load_all(part)]
    assert objects == [*found.besides, *found.jobs]


def test_the_script_is_one_for_any_shell() -> None:
    script = script_of(export())
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    assert script.startswith("#!/bin/sh\n")
    assert "stage gemma-math-prepare-1 <<" in script


def test_the_script_keeps_to_the_namespace_of_its_objects() -> None:
    assert "kubectl() {" not in script_of(export())
    found = export()
    named = Export(found.name, "team", found.besides, found.jobs, found.suspended)
    assert 'kubectl() { command kubectl -n team "$@"; }' in script_of(named)


def test_the_comment_names_the_jobs() -> None:
    assert "#   kubectl patch job gemma-math-train-1 --type=merge" in yaml_of(export())


def test_nothing_that_a_file_says_is_run_by_the_script(tmp_path: Path) -> None:
    """A file may be somebody else's, and the script is run with one's own rights."""
    trap = tmp_path / "trap"
    image = f"x\nEOF\ntouch {trap}\n: <<'EOF'\n$(touch {trap})`touch {trap}`"
    script = script_of(export(trainer={"image": image}))
    # Every Job is complete at once.
    calls = """#!/bin/sh
[ "$1" = apply ] && cat >/dev/null
case $* in *Failed*) ;; *) echo True;; esac
"""
    (tmp_path / "kubectl").write_text(calls)
    (tmp_path / "kubectl").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["sh", "-c", script], env={"PATH": path}, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert not trap.exists()


@pytest.mark.parametrize("name", ["x; touch trap #", "x\ntouch trap", "$(touch trap)", "-n", "A"])
def test_what_is_no_namespace_does_not_come_into_it(name: str) -> None:
    with pytest.raises(CliError, match="is no name of a namespace"):
        exported(document(Path(SAMPLE)), SETTINGS, name)

"""kubectl's and helm's command lines on every page, taken by the real programs; and the fields of a
FineTuneJob that they read or set are the CRD's. No cluster: what would reach one finds none.

README's are executed by integration/test_quick_start.py, those of `kubectl finetune` parsed by
unit/cli/test_documentation.py.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cluster import tools
from cluster.tools import Helm, ToolError
from finetune_operator.api.crdgen import definition
from unit.helm.chart import CHART, ROOT
from unit.shell_lines import programs, typed

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHOWN = [
    (page.relative_to(ROOT), words)
    for page in PAGES
    for line in typed(page)
    for words in programs(line)
]
KUBECTL = [
    (page, words) for page, words in SHOWN if words[0] == "kubectl" and words[1] != "finetune"
]
HELM = [(page, words) for page, words in SHOWN if words[0] == "helm"]
# What kubectl says of a server that is not there, and of what it has done without one.
NO_SERVER = re.compile(r"127\.0\.0\.1:1\b.*refused|connection refused|did you specify", re.DOTALL)
NOWHERE = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "nowhere",
    "clusters": [{"name": "nowhere", "cluster": {"server": "http://127.0.0.1:1"}}],
    "contexts": [{"name": "nowhere", "context": {"cluster": "nowhere"}}],
}
# Files and folders of a person's own, which pages name.
OWN_FILES = ("run.yaml", "reader.yaml")
OWN_FOLDERS = ("my-applications", "qwen2.5-7b-instruct", "tickets")
SCHEMA = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
_PATH = re.compile(r"\.(?:spec|status|metadata)(?:\.[A-Za-z]+)+")


def said(value: Any) -> str:
    return " ".join(value)[:70] if isinstance(value, list) else Path(value).stem


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which somebody has written files of their own; no access to a cluster."""
    folder = tmp_path_factory.mktemp("clone")
    for path in ROOT.iterdir():
        if not path.name.startswith("."):
            (folder / path.name).symlink_to(path)
    sample = ROOT / "manifests" / "samples" / "first.yaml"
    for name in OWN_FILES:
        shutil.copy(sample, folder / name)
    for name in OWN_FOLDERS:
        (folder / name).mkdir()
        shutil.copy(sample, folder / name)
    (folder / "kubeconfig").write_text(json.dumps(NOWHERE))
    return folder


@pytest.fixture(scope="module")
def kubectl(kustomize: object) -> Path:
    return tools.ensure("kubectl")


def run(kubectl: Path, clone: Path, words: list[str]) -> tuple[int, str]:
    environment = {"KUBECONFIG": str(clone / "kubeconfig"), "HOME": str(clone), "PATH": "/usr/bin"}
    ended = subprocess.run(
        [str(kubectl), *words[1:]],
        cwd=clone,
        env=environment,
        input=(clone / OWN_FILES[0]).read_text(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize(("page", "words"), KUBECTL, ids=said)
def test_kubectl_understands_it(kubectl: Path, clone: Path, page: Path, words: list[str]) -> None:
    code, answer = run(kubectl, clone, words)
    assert code == 0 or NO_SERVER.search(answer), f"{page}: {' '.join(words)}\n{answer}"


@pytest.mark.parametrize(
    "wrong",
    [
        ["kubectl", "gett", "ftj"],
        ["kubectl", "get", "ftj", "--wath"],
        ["kubectl", "apply", "-f", "rum.yaml"],
        ["kubectl", "create", "secret", "generic", "a", "--from-litteral=b=c"],
    ],
    ids=said,
)
def test_a_wrong_line_is_seen(kubectl: Path, clone: Path, wrong: list[str]) -> None:
    code, answer = run(kubectl, clone, wrong)
    assert code != 0
    assert not NO_SERVER.search(answer), answer


def of_ftj(words: list[str]) -> bool:
    return any(re.fullmatch(r"ftj(?:/.+)?|finetunejobs?", word) for word in words)


def is_a_field(path: list[str], schema: dict[str, Any] = SCHEMA) -> bool:
    """Whether the CRD has it; what it leaves open, as metadata, has every field."""
    for name in path:
        if "properties" not in schema:
            return True
        if name not in schema["properties"]:
            return False
        schema = schema["properties"][name]
    return True


@pytest.mark.parametrize(("page", "words"), [each for each in KUBECTL if of_ftj(each[1])], ids=said)
def test_the_fields_that_it_reads_are_those_of_a_run(page: Path, words: list[str]) -> None:
    read = [path for word in words for path in _PATH.findall(word)]
    assert [path for path in read if not is_a_field(path.strip(".").split("."))] == [], page


@pytest.mark.parametrize(
    ("page", "words"),
    [each for each in KUBECTL if each[1][1] == "patch" and of_ftj(each[1])],
    ids=said,
)
def test_the_fields_that_it_sets_are_those_of_a_run(page: Path, words: list[str]) -> None:
    patch = json.loads(words[words.index("-p") + 1])
    assert [path for path in leaves(patch) if not is_a_field(path)] == [], page


def leaves(found: Any, path: tuple[str, ...] = ()) -> list[list[str]]:
    if not isinstance(found, dict):
        return [list(path)]
    return [leaf for name, part in found.items() for leaf in leaves(part, (*path, name))]


def test_a_field_that_is_not_there_is_seen() -> None:
    assert is_a_field(["status", "resolved", "strategy"])
    assert is_a_field(["metadata", "name"])
    assert not is_a_field(["status", "resolved", "stragety"])
    assert not is_a_field(["spec", "rerun"])


@pytest.mark.parametrize(("page", "words"), HELM, ids=said)
def test_helm_understands_it_and_the_chart_takes_its_values(
    helm: Helm, clone: Path, page: Path, words: list[str]
) -> None:
    with pytest.raises(ToolError) as refused:
        helm.on(clone / "kubeconfig", "nowhere")(*in_the_repository(words[1:]))
    assert re.search(r"unreachable|refused", str(refused.value)), f"{page}: {refused.value}"
    settings = [word for flag, word in itertools.pairwise(words) if flag == "--set"]
    if settings:
        flags = [part for text in settings for part in ("--set", text)]
        helm("template", "finetune-operator", str(CHART), *with_digests(flags))


def in_the_repository(words: list[str]) -> list[str]:
    """With the chart's path as a clone has it, and none of the namespace that is given here."""
    named = [str(CHART) if word == "helm/finetune-operator" else word for word in words]
    if "--namespace" in named:
        place = named.index("--namespace")
        del named[place : place + 2]
    return with_digests(named)


def with_digests(words: list[str]) -> list[str]:
    return [word.replace("sha256:…", f"sha256:{'0f' * 32}") for word in words]


def test_there_is_something_to_look_at() -> None:
    assert len(KUBECTL) > 60
    assert len(HELM) > 5

"""The operator's rights, counted: what it calls and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

BASE = Path(__file__).resolve().parents[3] / "manifests" / "base"

# Every verb that the code uses, by resource. Whoever adds a call adds it here and in rbac.yaml.
CALLED_ANYWHERE = {
    ("finetune.dev", "finetunejobs"): {"list", "watch"},
    ("finetune.dev", "finetunejobs/status"): {"patch"},
    ("batch", "jobs"): {"get", "list", "watch", "create", "delete"},
    ("", "configmaps"): {"get", "create"},
    ("", "persistentvolumeclaims"): {"get", "create", "patch"},
    ("", "services"): {"get", "create"},
    ("", "pods"): {"get", "list"},
    ("", "events"): {"list", "create"},
    ("authentication.k8s.io", "tokenreviews"): {"create"},
}
# Not called: asked for by an admission plug-in when an owner reference blocks deletion.
ASKED_FOR = {("finetune.dev", "finetunejobs/finalizers"): {"update"}}
CALLED_AT_HOME = {("", "secrets"): {"create"}}


def documents(name: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all((BASE / name).read_text()) if document]


RBAC = documents("rbac.yaml")


def granted(kind: str) -> dict[tuple[str, str], set[str]]:
    rights: dict[tuple[str, str], set[str]] = {}
    for role in (document for document in RBAC if document["kind"] == kind):
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    rights.setdefault((group, resource), set()).update(rule["verbs"])
    return rights


def test_everywhere_it_may_do_what_it_does() -> None:
    assert granted("ClusterRole") == CALLED_ANYWHERE | ASKED_FOR


def test_at_home_it_may_also_make_its_certificate() -> None:
    assert granted("Role") == CALLED_AT_HOME


def test_no_wildcard() -> None:
    for rights in (granted("ClusterRole"), granted("Role")):
        for (group, resource), verbs in rights.items():
            assert "*" not in {group, resource, *verbs}


@pytest.mark.parametrize("kind", ["ClusterRole", "Role"])
def test_no_secret_can_be_read(kind: str) -> None:
    assert granted(kind).get(("", "secrets"), set()) <= {"create"}


def test_no_role_but_its_own_is_bound() -> None:
    for binding in (document for document in RBAC if document["kind"].endswith("Binding")):
        assert binding["roleRef"]["name"] == "finetune-operator"
        assert [subject["name"] for subject in binding["subjects"]] == ["finetune-operator"]


def test_people_may_not_write_status() -> None:
    for role in documents("rbac-users.yaml"):
        for rule in role["rules"]:
            assert rule["resources"] == ["finetunejobs"]


def test_the_operators_own_pod_is_restricted() -> None:
    [deployment] = documents("deployment.yaml")
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }

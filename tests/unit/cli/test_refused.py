"""What the API server answers → one sentence with the next step, and an exit code."""

from __future__ import annotations

import json

import pytest

from finetune_cli import refused
from finetune_cli.errors import CliError, Exit

SERVER = "https://cluster.test:6443"


def answer(status: int, message: str) -> CliError:
    body = json.dumps({"kind": "Status", "message": message})
    return refused.from_answer(status, body, "change FineTuneJobs", SERVER, "demo")


TABLE = [
    (answer(401, "Unauthorized"), Exit.DENIED, "log in again, or choose another cluster"),
    (
        answer(403, 'finetunejobs is forbidden: User "eve" cannot patch'),
        Exit.DENIED,
        "You may not change FineTuneJobs in namespace demo: ask for the role edit there",
    ),
    (
        refused.from_answer(403, '{"message": "x cannot list"}', "list pods", SERVER, "demo"),
        Exit.DENIED,
        "You may not list pods in namespace demo: ask for the role view there",
    ),
    (answer(403, "exceeded quota"), Exit.DENIED, "refuses to change FineTuneJobs: exceeded quota"),
    (answer(409, "modified"), Exit.REFUSED, "Somebody changed it meanwhile: try to change"),
    (answer(422, "spec.x must be y"), Exit.REFUSED, "refuses to change FineTuneJobs: spec.x must"),
    (
        answer(400, 'strict decoding error: unknown field "spec.rerunToken"'),
        Exit.REFUSED,
        "The CRD of this cluster is older than this plug-in",
    ),
    (answer(503, "etcd is gone"), Exit.NO_CLUSTER, "(503: etcd is gone): try again in a moment"),
    (
        refused.from_answer(500, b"<html>\n\xff", "list pods", SERVER, "demo"),
        Exit.NO_CLUSTER,
        "cannot list pods now (500: <html> \ufffd)",
    ),
    (
        refused.no_answer(SERVER, "Connection refused"),
        Exit.NO_CLUSTER,
        "does not answer (Connection refused): check it with `kubectl cluster-info`",
    ),
    (
        refused.no_access("~/.kube/config", "there is no such file"),
        Exit.NO_CLUSTER,
        "~/.kube/config cannot be used (there is no such file). Name a kubeconfig",
    ),
    (
        refused.unknown_resource(None),
        Exit.NOT_FOUND,
        "This cluster has no FineTuneJobs (finetune.dev/v1alpha1 is not installed): install",
    ),
    (
        refused.unknown_resource(["v1beta1", "v1"]),
        Exit.NOT_FOUND,
        "serves finetune.dev in version v1beta1, v1, and this plug-in speaks v1alpha1: upgrade",
    ),
    (
        refused.not_there("gema", "demo", ["gemma"]),
        Exit.NOT_FOUND,
        'There is no FineTuneJob "gema" in namespace demo: did you mean gemma?',
    ),
    (
        refused.not_there("x", "demo", []),
        Exit.NOT_FOUND,
        "`kubectl finetune list -A` shows all.",
    ),
]


@pytest.mark.parametrize(("error", "code", "sentence"), TABLE, ids=[row[2][:40] for row in TABLE])
def test_it_is_one_sentence_with_the_next_step(error: CliError, code: int, sentence: str) -> None:
    assert sentence in error.message
    assert "\n" not in error.message
    assert error.code == code


def test_a_missing_object_is_not_a_missing_kind() -> None:
    missing = {"details": {"name": "x", "kind": "finetunejobs"}}
    assert refused.is_about_an_object(json.dumps(missing))
    assert not refused.is_about_an_object("404 page not found\n")
    assert not refused.is_about_an_object(None)
    assert not refused.is_about_an_object("[]")

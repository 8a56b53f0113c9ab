"""An operator that cannot work says in one sentence what is missing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cluster.handle import Cluster
from integration.operator_process import NAMESPACE, OperatorProcess, install, kubeconfig


def test_without_rights(control_plane: Cluster, tmp_path: Path) -> None:
    install(control_plane)
    account = "nobody"
    control_plane.kubectl("create", "serviceaccount", account, "-n", NAMESPACE, check=False)
    access = kubeconfig(control_plane, tmp_path / "kubeconfig", account)
    code, said = OperatorProcess(access, tmp_path / "log").run_to_its_end()
    assert code == 1
    assert said.startswith("finetune-operator: Rights are missing: finetunejobs.finetune.dev is ")
    assert said.endswith("They are in manifests/base/rbac.yaml.")


def test_without_a_trainer_image(tmp_path: Path) -> None:
    process = OperatorProcess(tmp_path / "x", tmp_path / "log", {"FINETUNE_TRAINER_IMAGE": ""})
    code, said = process.run_to_its_end()
    assert code == 1
    assert said.startswith("finetune-operator: FINETUNE_TRAINER_IMAGE is not set")


def test_without_a_cluster(tmp_path: Path) -> None:
    code, said = OperatorProcess(tmp_path / "missing", tmp_path / "log").run_to_its_end()
    assert code == 1
    assert said.startswith("finetune-operator: No access to a cluster: ")


class NotInstalled(BaseHTTPRequestHandler):
    """An API server that knows no FineTuneJobs."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def bare_server() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), NotInstalled) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_without_the_crd(bare_server: int, tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\n"
        f"clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{bare_server}'}}}}]\n"
        "users: [{name: u, user: {token: x}}]\n"
        "contexts: [{name: a, context: {cluster: c, user: u}}]\n"
    )
    code, said = OperatorProcess(config, tmp_path / "log").run_to_its_end()
    assert code == 1
    assert said == (
        "finetune-operator: The cluster does not know FineTuneJobs: run "
        "kubectl apply -f crds/finetunejobs.yaml"
    )

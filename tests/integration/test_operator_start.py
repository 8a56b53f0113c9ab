"""An operator that cannot work says in one sentence what is missing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from cluster.handle import Cluster
from integration.operator_process import NAMESPACE, OperatorProcess, install, kubeconfig
from integration.world import World, until


def test_without_rights(control_plane: Cluster, tmp_path: Path) -> None:
    install(control_plane)
    account = "nobody"
    control_plane.kubectl("create", "serviceaccount", account, "-n", NAMESPACE, check=False)
    access = kubeconfig(control_plane, tmp_path / "kubeconfig", account)
    code, said = OperatorProcess(access, tmp_path / "log").run_to_its_end()
    assert code == 1
    assert said.startswith("finetune-operator: Rights are missing: finetunejobs.finetune.dev is ")
    assert said.endswith("They are in manifests/base/rbac.yaml, and in the chart.")


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
    """An API server that is away for a moment, and then knows no FineTuneJobs."""

    away = 6  # more calls than one is repeated

    def do_GET(self) -> None:
        NotInstalled.away -= 1
        self.send_error(503 if NotInstalled.away >= 0 else 404)

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def bare_server() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), NotInstalled) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_without_the_crd_and_first_without_an_answer(bare_server: int, tmp_path: Path) -> None:
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
    assert NotInstalled.away < 0


def healthy(process: OperatorProcess) -> bool:
    """What a probe of a second or two learns."""
    try:
        with urlopen(f"http://127.0.0.1:{process.health_port}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except TimeoutError as error:
        raise AssertionError("the probe was kept waiting") from error
    except URLError:  # refused, or answered with 500
        return False


def test_it_ends_when_it_hears_nothing_any_more(control_plane: Cluster, tmp_path: Path) -> None:
    install(control_plane)
    process = OperatorProcess(kubeconfig(control_plane, tmp_path / "kubeconfig"), tmp_path / "log")
    process.start()
    try:
        # Asked from the first moment on, so also before it watches.
        until(lambda: healthy(process), "it is healthy")
        # The guard arms itself a few seconds after the start.
        time.sleep(6)
        control_plane.kubectl("delete", "crd/finetunejobs.finetune.dev", "--timeout=60s")
        code, said = process.wait_for_end(seconds=60)
    finally:
        process.kill()
        install(control_plane)
    assert code == 1
    assert said.startswith(
        "finetune-operator: finetunejobs.v1alpha1.finetune.dev@None is not watched any more"
    )


def test_every_json_line_about_a_run_has_its_uid(control_plane: Cluster, tmp_path: Path) -> None:
    install(control_plane)
    log = tmp_path / "log"
    with control_plane.namespace("logged") as namespace:
        told = {"FINETUNE_WATCH_NAMESPACES": namespace, "FINETUNE_LOG_FORMAT": "json"}
        process = OperatorProcess(kubeconfig(control_plane, tmp_path / "kubeconfig"), log, told)
        process.start()
        try:
            world = World(control_plane, namespace)
            world.apply("demo")
            world.wait_for_job("demo-prepare-1")
            uid = world.uid("demo")
            assert process.stop() == 0
        finally:
            process.kill()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    uids = {line["uid"] for line in lines if line.get("finetunejob") == "demo"}
    assert uids == {uid}

"""What the tests of the project rely on when pods run: on our own cluster, whole."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import images, paths, podman, preflight, provider
from cluster.errors import ClusterError
from cluster.handle import Cluster

pytestmark = pytest.mark.timeout(300)

RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "fsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY greeting /greeting
USER 65532:65532
"""


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    """Ours, whichever the other tests run on."""
    if preflight.problems():
        pytest.skip("this machine cannot run the cluster that is tested here")
    return provider.Local().provide()


@pytest.fixture(scope="module")
def image(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("image")
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "greeting").write_text("hello\n")
    base = podman.base_image()
    return images.build_image("probe", folder / "Dockerfile", folder, {"BASE_IMAGE": base})


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    with cluster.namespace("node") as name:
        yield name


def _container(image: str, program: str, **more: Any) -> dict[str, Any]:
    command = ["python3", "-c", program]
    contained = {"name": "c", "image": image, "command": command, "securityContext": CONTAINED}
    return {**contained, **more}


def _pod(name: str, container: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": RESTRICTED,
            "containers": [container],
            **more,
        },
    }


def _create(cluster: Cluster, namespace: str, *manifests: dict[str, Any]) -> None:
    items = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
    cluster.kubectl("-n", namespace, "create", "-f", "-", input=json.dumps(items))


def _get(cluster: Cluster, namespace: str, *what: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.kubectl("-n", namespace, "get", *what, "-o", "json"))
    return found


def _wait(cluster: Cluster, namespace: str, what: str, condition: str) -> None:
    cluster.kubectl("-n", namespace, "wait", what, f"--for={condition}", "--timeout=90s")


def test_an_unchanged_image_is_not_built_again(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "greeting").write_text("hello\n")
    base = podman.base_image()
    monkeypatch.setattr(podman, "build", lambda *_: pytest.fail("it is built again"))
    again = images.build_image("probe", tmp_path / "Dockerfile", tmp_path, {"BASE_IMAGE": base})
    assert again == image


def test_a_non_root_pod_writes_its_volume_and_hears_the_end(
    cluster: Cluster, namespace: str, image: str
) -> None:
    program = (
        "import pathlib, signal, sys, time\n"
        "kept = pathlib.Path('/data/word')\n"
        "def end(*_):\n"
        "    kept.write_text('ended')\n"
        "    sys.exit(0)\n"
        "if kept.exists():\n"
        "    print(kept.read_text())\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "kept.write_text('began')\n"
        "time.sleep(600)\n"
    )
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    mount = [{"name": "data", "mountPath": "/data"}]
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    container = _container(image, program, volumeMounts=mount)
    _create(cluster, namespace, claim, _pod("first", container, volumes=volumes))
    _wait(cluster, namespace, "pod/first", "condition=Ready")
    folder = _get(cluster, namespace, "pvc", "data")["spec"]["volumeName"]
    word = paths.state() / "volumes" / folder / "word"
    _eventually(lambda: word.exists() and word.read_text() == "began")
    cluster.kubectl("-n", namespace, "delete", "pod", "first")
    _create(cluster, namespace, _pod("second", container, volumes=volumes))
    _wait(cluster, namespace, "pod/second", "jsonpath={.status.phase}=Succeeded")
    assert cluster.kubectl("-n", namespace, "logs", "second") == "ended\n"
    cluster.kubectl("-n", namespace, "delete", "pod/second", "pvc/data")
    _eventually(lambda: not word.parent.exists())


def _eventually(condition: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def test_eight_gpus_and_not_one_more(cluster: Cluster, namespace: str, image: str) -> None:
    def asks_for(count: int) -> dict[str, Any]:
        gpus = {"limits": {"nvidia.com/gpu": str(count)}}
        return _pod(f"gpus-{count}", _container(image, "", resources=gpus))

    _create(cluster, namespace, asks_for(9), asks_for(8))
    _wait(cluster, namespace, "pod/gpus-8", "jsonpath={.status.phase}=Succeeded")
    condition = _get(cluster, namespace, "pod", "gpus-9")["status"]["conditions"][0]
    assert (condition["type"], condition["reason"]) == ("PodScheduled", "Unschedulable")


def test_ranks_of_an_indexed_job_meet_by_name(cluster: Cluster, namespace: str, image: str) -> None:
    program = (
        "import os, socket, time\n"
        "rank = int(os.environ['JOB_COMPLETION_INDEX'])\n"
        "server = socket.create_server(('', 9000))\n"
        "while True:\n"
        "    try:\n"
        "        socket.create_connection((f'ranks-{1 - rank}.ranks', 9000), 2)\n"
        "        break\n"
        "    except OSError:\n"
        "        time.sleep(0.1)\n"
        "server.accept()\n"
    )
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "ranks"},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"app": "ranks"},
        },
    }
    pod = _pod("ranks", _container(image, program), subdomain="ranks")
    template = {"metadata": {"labels": pod["metadata"]["labels"]}, "spec": pod["spec"]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "ranks"},
        "spec": {
            "completions": 2,
            "parallelism": 2,
            "completionMode": "Indexed",
            "backoffLimit": 0,
            "template": template,
        },
    }
    _create(cluster, namespace, service, job)
    _wait(cluster, namespace, "job/ranks", "condition=Complete")


def test_a_service_balances_names_and_addresses(
    cluster: Cluster, namespace: str, image: str
) -> None:
    program = (
        "import http.server\n"
        "http.server.HTTPServer(('', 8080), http.server.SimpleHTTPRequestHandler).serve_forever()"
    )
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    _create(
        cluster, namespace, service, _pod("web", _container(image, program, readinessProbe=probe))
    )
    _wait(cluster, namespace, "pod/web", "condition=Ready")
    client = (
        "import time, urllib.request\n"
        "for attempt in range(50):\n"
        "    try:\n"
        f"        urllib.request.urlopen('http://web.{namespace}.svc.cluster.local', timeout=5)\n"
        "        break\n"
        "    except OSError:\n"
        "        time.sleep(0.1)\n"
        "else:\n"
        "    raise SystemExit('no answer')\n"
    )
    _create(cluster, namespace, _pod("client", _container(image, client)))
    _wait(cluster, namespace, "pod/client", "jsonpath={.status.phase}=Succeeded")
    said = cluster.kubectl("-n", namespace, "exec", "web", "--", "python3", "-c", "print('hi')")
    assert said == "hi\n"
    _forward(cluster, namespace, "pod/web")


def _forward(cluster: Cluster, namespace: str, target: str) -> None:
    command = [str(cluster.kubectl_binary), "--kubeconfig", str(cluster.kubeconfig)]
    command += ["-n", namespace, "port-forward", target, ":8080"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
        assert forward.stdout is not None
        try:
            line = forward.stdout.readline()
            port = line.split(" -> ")[0].rpartition(":")[2]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                assert answer.status == 200
        finally:
            forward.terminate()


def test_too_much_memory_is_named_as_the_cause(
    cluster: Cluster, namespace: str, image: str
) -> None:
    limits = {"limits": {"memory": "64Mi"}}
    program = "x = bytearray(300 << 20); x[::4096] = b'1' * len(x[::4096])"
    reasons = []
    # The kernel's word may reach the container runtime after the container's end, which is told
    # once: now and then a pod is told to have failed with "Error".
    for name in ("greedy", "greedy-too", "greedy-as-well"):
        _create(cluster, namespace, _pod(name, _container(image, program, resources=limits)))
        _wait(cluster, namespace, f"pod/{name}", "jsonpath={.status.phase}=Failed")
        status = _get(cluster, namespace, "pod", name)["status"]["containerStatuses"][0]
        ended = status["state"]["terminated"]
        assert ended["exitCode"] == 128 + signal.SIGKILL
        reasons.append(ended["reason"])
    assert "OOMKilled" in reasons


def test_a_projected_token_is_known_to_the_api_server(
    cluster: Cluster, namespace: str, image: str
) -> None:
    token = {"serviceAccountToken": {"audience": "here", "path": "token"}}
    volumes = [{"name": "token", "projected": {"sources": [token]}}]
    mount = [{"name": "token", "mountPath": "/token"}]
    container = _container(image, "print(open('/token/token').read())", volumeMounts=mount)
    _create(cluster, namespace, _pod("bearer", container, volumes=volumes))
    _wait(cluster, namespace, "pod/bearer", "jsonpath={.status.phase}=Succeeded")
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {
            "token": cluster.kubectl("-n", namespace, "logs", "bearer").strip(),
            "audiences": ["here"],
        },
    }
    answer = cluster.kubectl("create", "-o", "json", "-f", "-", input=json.dumps(review))
    user = json.loads(answer)["status"]["user"]
    assert user["username"] == f"system:serviceaccount:{namespace}:default"
    assert user["extra"]["authentication.kubernetes.io/pod-name"] == ["bearer"]


def test_a_missing_dockerfile_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="add it"):
        images.require_dockerfile(images.Recipe(tmp_path))

"""The parts that need no cluster: keys, decisions, messages."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cluster import (
    binaries,
    content,
    gpus,
    images,
    node,
    paths,
    podman,
    preflight,
    progress,
    provider,
    registry,
    volumes,
)
from cluster.control_plane import Ports
from cluster.errors import ClusterError
from cluster.handle import Cluster
from cluster.processes import Service, Supervisor

# --- where things live ---------------------------------------------------------------------------


def test_folders_follow_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "s"))
    assert paths.cache() == tmp_path / "c" / "finetune-operator"
    assert paths.kubeconfig() == tmp_path / "s" / "finetune-operator" / "cluster" / "kubeconfig"


def test_a_relative_xdg_folder_is_ignored_as_its_specification_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert paths.cache() == Path.home() / ".cache" / "finetune-operator"


# --- binaries ------------------------------------------------------------------------------------


def test_every_binary_is_pinned_and_keyed() -> None:
    for module in binaries.MODULES:
        assert len(binaries.key(module)) == 12
    assert {binaries.path_of(name).name for name in binaries.CONTROL_PLANE + binaries.NODE} == {
        *binaries.CONTROL_PLANE,
        *binaries.NODE,
    }


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        (None, "not on PATH"),
        ((1, 23), "Go 1.23 is too old"),
        ((1, 24), None),
        ((2, 0), None),
    ],
)
def test_go_is_judged(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int] | None, problem: str | None
) -> None:
    monkeypatch.setattr(binaries, "go_version", lambda: version)
    found = binaries.go_problem()
    assert (found is None) if problem is None else (found is not None and problem in found)


# --- image contents ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("README.md", True),
        ("operator/code.py", False),
        ("operator/deep/code.py", False),
        ("operator/__pycache__/code.pyc", True),
        ("operators", True),
        ("crds/one.yaml", False),
        ("crds/one.yml", True),
    ],
)
def test_dockerignore(name: str, left_out: bool) -> None:
    rules = ["*", "!operator", "!crds/*.yaml", "**/__pycache__"]
    assert content.ignored(name, rules) is left_out


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    (folder / ".gitignore").write_text("ignored\n")
    (folder / ".dockerignore").write_text("# said\n.*\nDockerfile\n")
    for name in ("Dockerfile", "ignored", "program", "text"):
        (folder / name).write_text(name)
    return folder


def _key(folder: Path, **arguments: str) -> str:
    files = content.context_files(folder)
    return content.key(folder, files, folder / "Dockerfile", arguments)


def test_only_what_git_knows_enters_an_image(context: Path, tmp_path: Path) -> None:
    files = content.context_files(context)
    assert files == ["program", "text"]
    content.stage(context, files, tmp_path / "staged")
    assert sorted(os.listdir(tmp_path / "staged")) == files


def test_the_key_follows_content_and_nothing_else(context: Path) -> None:
    first = _key(context, BASE="x")
    os.utime(context / "text", (0, 0))
    (context / "ignored").write_text("changed")
    assert _key(context, BASE="x") == first
    assert _key(context, BASE="y") != first
    (context / "text").chmod(0o755)
    second = _key(context, BASE="x")
    assert second != first
    (context / "text").write_text("changed")
    assert _key(context, BASE="x") not in (first, second)


# --- images of other clusters --------------------------------------------------------------------


def test_too_small_a_disk_is_told_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(registry, "digest", lambda *_: None)
    monkeypatch.setattr(podman, "has", lambda _: False)
    (tmp_path / "Dockerfile").write_text("FROM scratch")
    with pytest.raises(ClusterError, match=r"takes about 1000000 GiB and .* set XDG_CACHE_HOME"):
        images.build_image("large", tmp_path / "Dockerfile", tmp_path, {}, room_gib=10**6)


def test_an_existing_cluster_is_told_where_images_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_TRAINER_IMAGE", "registry.example.com/trainer:1")
    monkeypatch.delenv("FINETUNE_HUB_IMAGE", raising=False)
    assert images.from_environment("trainer") == "registry.example.com/trainer:1"
    with pytest.raises(ClusterError, match="FINETUNE_HUB_IMAGE is not set"):
        images.from_environment("hub")


# --- volumes and GPUs ----------------------------------------------------------------------------


def _claim(**more: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "n",
            "name": "c",
            "uid": "u",
            "annotations": {"volume.kubernetes.io/selected-node": "node-1"},
        },
        "spec": {
            "storageClassName": "local",
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "3Gi"}},
            **more,
        },
    }


def test_a_claim_with_a_node_gets_its_volume() -> None:
    volume = volumes.volume_for(_claim(), Path("/volumes"))
    assert volume is not None
    assert volume["spec"]["local"]["path"] == "/volumes/pvc-u"
    assert volume["spec"]["accessModes"] == ["ReadWriteMany"]
    assert volume["spec"]["capacity"] == {"storage": "3Gi"}
    assert volume["spec"]["claimRef"]["uid"] == "u"


@pytest.mark.parametrize(
    "claim",
    [
        _claim(storageClassName="other"),
        _claim(volumeName="bound"),
        _claim(volumeMode="Block"),
        {**_claim(), "metadata": {"namespace": "n", "name": "c", "uid": "u"}},
    ],
)
def test_other_claims_are_left_alone(claim: dict[str, Any]) -> None:
    assert volumes.volume_for(claim, Path("/volumes")) is None


@pytest.mark.parametrize(
    ("path", "phase", "policy", "deleted"),
    [
        ("/volumes/pvc-u", "Released", "Delete", True),
        ("/volumes/pvc-u", "Bound", "Delete", False),
        ("/volumes/pvc-u", "Released", "Retain", False),
        ("/etc", "Released", "Delete", False),
    ],
)
def test_only_our_released_volumes_are_deleted(
    path: str, phase: str, policy: str, deleted: bool
) -> None:
    volume = volumes.volume_for(_claim(), Path("/volumes"))
    assert volume is not None
    volume["spec"]["local"]["path"] = path
    volume["spec"]["persistentVolumeReclaimPolicy"] = policy
    volume["status"] = {"phase": phase}
    assert (volumes.to_delete(volume, Path("/volumes")) is not None) is deleted


def test_gpus_are_missed_when_either_amount_is_gone() -> None:
    patched = gpus.status_patch()
    assert not gpus.missing(patched)
    patched["status"]["allocatable"] = {"nvidia.com/gpu": "0"}
    assert gpus.missing(patched)
    assert gpus.missing({})


# --- what a person reads -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probe", "value", "sentence"),
    [
        ("_linux", False, "This is not Linux."),
        ("_root", False, "run as root"),
        ("_installable", False, "install the packages that provide"),
        ("_go", False, "install Go"),
        ("_disk", False, "XDG_CACHE_HOME"),
        ("_short_paths", False, "XDG_STATE_HOME"),
        ("_memory_cgroup", False, "cgroup_enable=memory"),
        ("_overlay", False, "load the module `overlay`"),
        ("_nftables", False, "load the module `nf_tables`"),
        ("_forwarding_allowed", False, "iptables -P FORWARD ACCEPT"),
        ("_no_other_kubelet", False, "stop it first"),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(probe: str, value: bool, sentence: str) -> None:
    checks = preflight.BEFORE_INSTALLING + preflight.ONCE_INSTALLED
    check = next(check for check in checks if check.holds is getattr(preflight, probe))
    with pytest.raises(ClusterError) as raised:
        preflight.require([preflight.Check(lambda: value, check.problem)])
    assert sentence in str(raised.value)
    assert "kind" in str(raised.value)


def test_nothing_missing_says_nothing() -> None:
    preflight.require([preflight.Check(lambda: True, "never shown")])


@dataclass(frozen=True)
class _Provider:
    name: str
    missing: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        return self.missing

    def provide(self) -> Cluster:
        raise NotImplementedError


def test_the_first_provider_that_can_is_chosen() -> None:
    all_of_them = (_Provider("existing", ["no KUBECONFIG"]), _Provider("local"), _Provider("kind"))
    assert provider.choose({}, all_of_them).name == "local"
    assert provider.choose({provider.CHOICE: "kind"}, all_of_them).name == "kind"


def test_no_provider_names_what_each_is_missing() -> None:
    none = (_Provider("local", ["no root"]), _Provider("kind", ["no Docker", "no kind"]))
    with pytest.raises(ClusterError) as raised:
        provider.choose({}, none)
    for reason in ("local: no root", "kind: no Docker", "kind: no kind"):
        assert reason in str(raised.value)
    with pytest.raises(ClusterError, match="unknown"):
        provider.choose({provider.CHOICE: "minikube"}, none)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (12.34, "12.3 s"), (61, "1 min 01 s")]
)
def test_time_reads_well(seconds: float, text: str) -> None:
    assert progress.elapsed(seconds) == text


# --- processes -----------------------------------------------------------------------------------


def _sleeper(seconds: int = 60) -> Service:
    return Service("sleeper", (sys.executable, "-c", f"import time; time.sleep({seconds})"))


def test_a_daemon_is_found_again_and_restarted_only_when_it_changed(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    try:
        assert supervisor.ensure(_sleeper())
        first = supervisor.pid("sleeper")
        assert not Supervisor(tmp_path).ensure(_sleeper())
        assert supervisor.ensure(_sleeper(61))
        assert supervisor.pid("sleeper") not in (None, first)
    finally:
        supervisor.stop("sleeper")
    assert supervisor.pid("sleeper") is None


def test_a_recycled_process_id_is_not_taken_for_the_daemon(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    (tmp_path / "pids").mkdir()
    record = f'{{"pid": {os.getpid()}, "started": "0", "fingerprint": "x"}}'
    (tmp_path / "pids" / "sleeper.json").write_text(record)
    assert supervisor.pid("sleeper") is None
    supervisor.stop("sleeper")


def test_a_daemon_that_dies_is_shown_with_its_last_words(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    supervisor.ensure(Service("loser", (sys.executable, "-c", "raise SystemExit('out of luck')")))
    with pytest.raises(ClusterError, match="out of luck"):
        supervisor.wait("loser", lambda: False, 20)


def test_a_daemon_that_needs_several_starts_gets_them(tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    code = (
        f"import pathlib, sys, time; tries = pathlib.Path({str(tries)!r}); "
        "tries.write_text((tries.read_text() if tries.exists() else '') + 'x'); "
        "time.sleep(60) if len(tries.read_text()) > 2 else sys.exit('too early')"
    )
    supervisor, service = Supervisor(tmp_path), Service("late", (sys.executable, "-c", code))
    supervisor.ensure(service)
    try:
        supervisor.wait(
            "late", lambda: tries.exists() and tries.read_text() == "xxx", 20, restarted=service
        )
        assert supervisor.pid("late") is not None
    finally:
        supervisor.stop("late", grace=0)


def test_ports_are_chosen_once(tmp_path: Path) -> None:
    chosen = Ports.choose(tmp_path / "ports.json")
    assert Ports.choose(tmp_path / "ports.json") == chosen
    assert len({chosen.api, chosen.etcd, chosen.etcd_peer}) == 3


def test_the_container_runtime_is_configured_for_our_folders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    service = node.containerd(tmp_path / "state", "localhost:5000/pause:1")
    written = (tmp_path / "state" / "containerd" / "config.toml").read_text()
    assert service.revision == written
    assert f'root = "{tmp_path}/cache/finetune-operator/containerd"' in written
    assert 'sandbox_image = "localhost:5000/pause:1"' in written


def test_a_crd_without_conditions_yet_is_waited_for(tmp_path: Path) -> None:
    """The moment is too short to be met with a real API server: the answers are its own, played."""
    asked = tmp_path / "asked"
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        "#!/bin/sh\n"
        f"echo >> {asked}\n"
        f"case $(wc -l < {asked}) in\n"
        '1) echo \'{"status": {"conditions": null}}\' ;;\n'
        '2) echo \'{"status": {"conditions": [{"type": "NamesAccepted", "status": "True"}]}}\' ;;\n'
        '*) echo \'{"status": {"conditions": [{"type": "Established", "status": "True"}]}}\' ;;\n'
        "esac\n"
    )
    kubectl.chmod(0o755)
    cluster = Cluster(tmp_path / "kubeconfig", "played", kubectl, images.no_node)
    cluster.wait_for_crd("finetunejobs.finetune.dev")
    assert len(asked.read_text().splitlines()) == 3


def test_references_of_the_kubelet_to_images_without_a_name_are_found() -> None:
    listing = """REF TYPE DIGEST SIZE PLATFORMS LABELS
localhost:5000/finetune-hub:1 manifest sha256:aa 83.4 MiB linux/amd64 -
localhost:5000/finetune-hub@sha256:cc manifest sha256:cc 83.4 MiB linux/amd64 -
sha256:11 manifest sha256:aa 83.4 MiB linux/amd64 -
sha256:22 manifest sha256:bb 2.8 GiB linux/amd64 -
sha256:33 manifest sha256:cc 83.4 MiB linux/amd64 -
"""
    assert images.nameless(listing) == ["sha256:22"]
    assert images.nameless("") == []

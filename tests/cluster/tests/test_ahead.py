"""What is built before it is wanted: no Go, no podman and no cluster need be here."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import ahead, binaries, images, packages, paths, podman, preflight, provider


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What Go and podman were told to build."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv(provider.CHOICE, raising=False)
    done: list[str] = []
    monkeypatch.setattr(binaries, "ensure", done.extend)
    monkeypatch.setattr(packages, "ensure", lambda: None)
    monkeypatch.setattr(preflight, "failed", lambda _: [])
    monkeypatch.setattr(podman, "base_image", lambda: "base")
    monkeypatch.setattr(podman, "has", done.__contains__)
    monkeypatch.setattr(podman, "build", lambda full, *_: done.append(full))
    monkeypatch.setattr(images, "_require_room", lambda *_: None)
    return done


def names(built: list[str]) -> list[str]:
    return [each.rpartition(":")[0].rpartition("/")[2] or each for each in built]


def test_tools_come_first(built: list[str]) -> None:
    ahead.build_binaries()
    assert set(built[:3]) == {"helm", "kubectl", "finetune-gitops"}
    assert {*binaries.CONTROL_PLANE, *binaries.NODE} <= set(built)


def test_all_images_are_built(built: list[str]) -> None:
    ahead.build_images()
    assert set(names(built)) == {f"finetune-{name}" for name in images.RECIPES}


@pytest.mark.parametrize(("name", "value"), [("KUBECONFIG", "x"), (provider.CHOICE, "kind")])
def test_no_image_is_built_for_a_cluster_that_is_not_ours(
    name: str, value: str, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    ahead.build_images()
    assert built == []


def test_an_image_is_built_once_with_what_it_builds_on(built: list[str]) -> None:
    for _ in range(2):
        images.build("hub")
    assert names(built) == ["finetune-operator", "finetune-hub"]


def test_an_image_that_was_pushed_once_is_not_built_again(built: list[str]) -> None:
    _, _, key = images.build("foreign").rpartition(":")
    built.clear()
    (paths.images() / "foreign").mkdir()
    (paths.images() / "foreign" / key).touch()
    images.build("foreign")
    assert built == []

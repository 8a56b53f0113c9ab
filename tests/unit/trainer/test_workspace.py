from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from finetune_trainer.workspace import Workspace, atomic_directory, write_json


def fill_and_fail(path: Path) -> None:
    with atomic_directory(path) as directory:
        (directory / "half").write_text("half")
        raise ValueError("killed in between")


def test_a_directory_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "merged"
    with atomic_directory(path) as directory:
        (directory / "nested").mkdir()
        (directory / "nested" / "file").write_text("content")
        assert not path.exists()
    assert (path / "nested" / "file").read_text() == "content"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_what_stood_there_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "merged"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(ValueError, match="in between"):
        fill_and_fail(path)
    assert list(tmp_path.iterdir()) == [path]
    assert (path / "old").read_text() == "old"


def test_the_rest_of_a_killed_process_does_not_get_in(tmp_path: Path) -> None:
    (tmp_path / "merged.tmp").mkdir()
    (tmp_path / "merged.tmp" / "stale").write_text("stale")
    with atomic_directory(tmp_path / "merged") as directory:
        (directory / "new").write_text("new")
    assert [file.name for file in (tmp_path / "merged").iterdir()] == ["new"]


def test_a_directory_replaces_the_one_before(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with atomic_directory(tmp_path / "adapter") as directory:
            (directory / name).write_text(name)
    assert [file.name for file in (tmp_path / "adapter").iterdir()] == ["two"]


def test_a_kill_at_the_end_never_leaves_a_part_under_the_complete_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The moment cannot be hit from outside: the process ends where the old directory is removed.
    path = tmp_path / "merged"
    for name in ("one", "two"):
        with atomic_directory(path) as directory:
            (directory / name).write_text(name)
        monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)
    assert [file.name for file in path.iterdir()] == ["two"]
    monkeypatch.undo()
    with atomic_directory(path) as directory:
        (directory / "three").write_text("three")
    assert list(tmp_path.iterdir()) == [path]


def test_every_file_and_directory_is_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    with atomic_directory(tmp_path / "merged") as directory:
        (directory / "nested").mkdir()
        (directory / "nested" / "file").write_text("content")
    below = [Path(path).relative_to(tmp_path).as_posix() for path in synced]
    assert set(below[:-1]) == {"merged.tmp", "merged.tmp/nested", "merged.tmp/nested/file"}
    assert below[-1] == "."


def test_json_is_replaced_whole_and_readable(tmp_path: Path) -> None:
    file = tmp_path / "results" / "train.json"
    write_json(file, {"message": "größer"})
    write_json(file, {"message": "größer als"})
    assert json.loads(file.read_text(encoding="utf-8")) == {"message": "größer als"}
    assert list(file.parent.iterdir()) == [file]


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "train.json"
    write_json(file, {"step": 1})
    with pytest.raises(TypeError):
        write_json(file, {"step": object()})
    assert json.loads(file.read_text()) == {"step": 1}


def test_only_a_stage_that_succeeded_has_a_result(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert workspace.read_result("train") is None
    write_json(workspace.result("train"), {"outcome": "Preempted", "result": {}})
    assert workspace.read_result("train") is None
    write_json(workspace.result("train"), {"outcome": "Succeeded", "result": {"steps": 3}})
    assert workspace.read_result("train") == {"steps": 3}


def test_the_paths_are_the_documented_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FINETUNE_WORKSPACE", raising=False)
    workspace = Workspace.from_environment()
    assert workspace.root == Path("/workspace")
    page = (Path(__file__).parents[3] / "docs" / "stage-contract.md").read_text()
    for path in (
        workspace.plan_hash,
        workspace.model,
        workspace.data,
        workspace.prepare,
        workspace.checkpoints,
        workspace.adapter,
        workspace.merged,
        workspace.history,
    ):
        assert f"\n  {path.relative_to(workspace.root)}" in page

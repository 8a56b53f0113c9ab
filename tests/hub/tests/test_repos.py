"""Repositories, references and history through the real client."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

from hub.fixture import HubServer, running_hub


def put(
    api: HfApi,
    repo: str,
    path: str,
    content: bytes,
    revision: str | None = None,
    message: str | None = None,
    parent: str | None = None,
) -> str:
    commit = api.upload_file(
        path_in_repo=path,
        path_or_fileobj=content,
        repo_id=repo,
        revision=revision,
        commit_message=message,
        parent_commit=parent,
    )
    return str(commit.oid)


def test_create_is_refused_twice_unless_asked(writer: HfApi, repo: str) -> None:
    assert writer.create_repo(repo, exist_ok=True).repo_id == repo
    with pytest.raises(HfHubHTTPError) as caught:
        writer.create_repo(repo)
    assert caught.value.response.status_code == 409


def test_info_shows_card_files_and_commit(writer: HfApi, repo: str) -> None:
    put(
        writer, repo, "README.md", b"---\nlicense: mit\ntags: [one]\nbase_model: a/b\n---\n# Card\n"
    )
    sha = put(writer, repo, "deep/er/weights.bin", b"\0" * 1000)
    info = writer.model_info(repo, files_metadata=True)
    assert (info.sha, info.private, info.id) == (sha, False, repo)
    assert info.card_data is not None
    assert info.card_data.license == "mit"
    assert {"one", "license:mit", "base_model:a/b"} <= set(info.tags or [])
    files = {file.rfilename: file for file in info.siblings or []}
    assert set(files) == {".gitattributes", "README.md", "deep/er/weights.bin"}
    assert files["deep/er/weights.bin"].lfs is not None
    assert files["README.md"].lfs is None


def test_a_card_that_is_not_yaml_is_refused(writer: HfApi, repo: str) -> None:
    with pytest.raises(ValueError, match="not YAML"):
        put(writer, repo, "README.md", b"---\na: [1\n---\n")


def test_tree_and_paths(writer: HfApi, repo: str) -> None:
    put(writer, repo, "a/b/c.txt", b"c")
    sha = put(writer, repo, "a/d.txt", b"d")
    flat = {item.path for item in writer.list_repo_tree(repo, "a")}
    assert flat == {"a/b", "a/d.txt"}
    deep = {item.path for item in writer.list_repo_tree(repo, recursive=True)}
    assert deep == {".gitattributes", "a", "a/b", "a/b/c.txt", "a/d.txt"}
    found = writer.get_paths_info(repo, ["a/d.txt", "a/b", "missing"], expand=True)
    assert [item.path for item in found] == ["a/d.txt", "a/b"]
    assert found[0].last_commit is not None
    assert found[0].last_commit.oid == sha


def test_long_trees_come_in_pages(writer: HfApi, repo: str) -> None:
    names = [f"many/{number:04}.txt" for number in range(1100)]
    writer.create_commit(
        repo, [CommitOperationAdd(name, b"x") for name in names], commit_message="m"
    )
    assert [item.path for item in writer.list_repo_tree(repo, "many")] == names


def test_branches_tags_and_commits_resolve(writer: HfApi, repo: str) -> None:
    first = put(writer, repo, "file.txt", b"one")
    writer.create_branch(repo, branch="feature/x")
    writer.create_branch(repo, branch="feature/x", exist_ok=True)
    writer.create_tag(repo, tag="v1", revision=first)
    second = put(writer, repo, "file.txt", b"two", revision="feature/x")
    assert writer.model_info(repo).sha == first
    assert writer.model_info(repo, revision="feature/x").sha == second
    assert writer.model_info(repo, revision="v1").sha == first
    assert writer.model_info(repo, revision=second[:8]).sha == second
    refs = writer.list_repo_refs(repo)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {
        "main": first,
        "feature/x": second,
    }
    assert [ref.name for ref in refs.tags] == ["v1"]
    writer.delete_branch(repo, branch="feature/x")
    with pytest.raises(RevisionNotFoundError):
        writer.model_info(repo, revision="feature/x")


def test_history_is_complete_and_paged(writer: HfApi, repo: str) -> None:
    for number in range(52):
        put(writer, repo, "count.txt", str(number).encode(), message=f"count {number}")
    commits = writer.list_repo_commits(repo)
    assert len(commits) == 53
    assert (commits[0].title, commits[-1].title) == ("count 51", "initial commit")
    assert commits[0].authors == ["tester"]


def test_files_and_folders_are_deleted(writer: HfApi, repo: str) -> None:
    put(writer, repo, "a/1.txt", b"1")
    put(writer, repo, "a/2.txt", b"2")
    put(writer, repo, "b.txt", b"b")
    operations = [CommitOperationDelete("a/"), CommitOperationDelete("b.txt")]
    writer.create_commit(repo, operations, commit_message="delete")
    assert writer.list_repo_files(repo) == [".gitattributes"]


def test_a_stale_parent_is_a_conflict(writer: HfApi, repo: str) -> None:
    old = writer.model_info(repo).sha
    put(writer, repo, "a.txt", b"a", parent=str(old))
    with pytest.raises(HfHubHTTPError) as caught:
        put(writer, repo, "a.txt", b"b", parent=str(old))
    assert caught.value.response.status_code == 412


def test_an_unknown_branch_cannot_be_committed_to(writer: HfApi, repo: str) -> None:
    with pytest.raises(RevisionNotFoundError):
        put(writer, repo, "a.txt", b"a", revision="nowhere")


def test_paths_outside_the_repository_are_refused(hub_server: HubServer, repo: str) -> None:
    lines = [
        {"key": "header", "value": {"summary": "bad"}},
        {"key": "file", "value": {"path": "../../x", "content": "", "encoding": "base64"}},
    ]
    answer = httpx2.post(
        f"{hub_server.endpoint}/api/models/{repo}/commit/main",
        content="\n".join(json.dumps(line) for line in lines),
        headers={"Authorization": f"Bearer {hub_server.write_token}"},
    )
    assert answer.status_code == 400
    assert "not a path inside a repository" in answer.json()["error"]


def test_names_outside_the_folder_are_refused(hub_server: HubServer) -> None:
    headers = {"Authorization": f"Bearer {hub_server.write_token}"}
    url = f"{hub_server.endpoint}/api/repos/create"
    body = {"name": "..", "organization": "acme"}
    assert httpx2.post(url, json=body, headers=headers).status_code == 400


def test_listing(writer: HfApi, repo: str) -> None:
    assert repo in [model.id for model in writer.list_models(author="acme")]
    assert writer.repo_exists(repo)
    assert not writer.repo_exists("acme/none")


def test_commits_at_the_same_time_all_arrive(writer: HfApi, repo: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: put(writer, repo, f"{number}.txt", b"x"), range(24)))
    assert len(writer.list_repo_files(repo)) == 25
    assert len(writer.list_repo_commits(repo)) == 25


def test_a_killed_server_comes_back_with_everything(tmp_path: Path) -> None:
    with running_hub(tmp_path) as server:
        api = server.api(server.write_token)
        api.create_repo("acme/kept", private=True)
        sha = put(api, "acme/kept", "weights.bin", b"\0" * 100_000)
        (server.root / "tmp" / "half-written").write_bytes(b"x")
        os.kill(server.pid, signal.SIGKILL)
    with running_hub(tmp_path) as server:
        info = server.api(server.read_token).model_info("acme/kept")
        assert (info.sha, info.private) == (sha, True)
        assert not list((server.root / "tmp").iterdir())
        file = server.api(server.read_token).hf_hub_download(
            "acme/kept", "weights.bin", cache_dir=tmp_path / "cache"
        )
        assert Path(file).stat().st_size == 100_000


def test_the_server_ends_cleanly(tmp_path: Path) -> None:
    with running_hub(tmp_path) as server:
        os.kill(server.pid, signal.SIGTERM)
        deadline = time.monotonic() + 60
        while "hub stops" not in server.log.read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "hub stops" in server.log.read_text()

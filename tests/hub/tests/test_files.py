"""Bytes up and down: ranges, both upload roads, large files in bounded memory."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi

from hub.fixture import HubServer, running_hub

MEGABYTE = 1 << 20


def sample(size: int) -> bytes:
    """Bytes that are partly compressible, as weights are."""
    noise = random.Random(size).randbytes(size // 2)
    return noise[: size // 4] + bytes(size // 4) + noise[size // 4 :] + b"ab" * (size // 8)


def resident(pid: int) -> int:
    """Memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def without_xet(server: HubServer, home: Path, script: str, *arguments: str) -> str:
    """Run a script with a client that takes the Git LFS road, whatever is installed."""
    return by_new_client(server, home, script, *arguments, HF_HUB_DISABLE_XET="1")


def by_new_client(
    server: HubServer, home: Path, script: str, *arguments: str, **settings: str
) -> str:
    """Run a script in a process of its own, whose client knows what is in `home`."""
    environment = {**os.environ, **server.environment(home, server.write_token), **settings}
    command = [sys.executable, "-c", script, *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


UPLOAD = """
import sys
from huggingface_hub import HfApi
api = HfApi()
api.create_repo(sys.argv[1], exist_ok=True)
print(api.upload_folder(repo_id=sys.argv[1], folder_path=sys.argv[2]).oid)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of regular, empty, binary and nested files."""
    base = tmp_path / "folder"
    (base / "sub" / "dir").mkdir(parents=True)
    (base / "config.json").write_text('{"a": 1}')
    (base / "empty.txt").write_bytes(b"")
    (base / "sub" / "dir" / "tab\u00e9 name.txt").write_text("text")
    (base / "model.safetensors").write_bytes(sample(3 * MEGABYTE))
    (base / "sub" / "data.bin").write_bytes(sample(1000))
    return base


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in found.items() if not name.startswith(".")}


def test_a_folder_comes_back_as_it_went(
    hub_server: HubServer, writer: HfApi, repo: str, folder: Path, tmp_path: Path
) -> None:
    first = writer.upload_folder(repo_id=repo, folder_path=folder)
    snapshot = hub_server.api(False).snapshot_download(repo, cache_dir=tmp_path / "cache")
    assert contents(Path(snapshot)) == contents(folder)
    assert Path(snapshot).name == first.oid
    again = writer.upload_folder(repo_id=repo, folder_path=folder)
    assert again.oid == first.oid


def test_the_git_lfs_road(hub_server: HubServer, folder: Path, tmp_path: Path) -> None:
    commit = without_xet(hub_server, tmp_path, UPLOAD, "acme/lfs", str(folder))
    assert ".git/info/lfs/objects/batch" in hub_server.log.read_text()
    snapshot = hub_server.api(False).snapshot_download("acme/lfs", local_dir=tmp_path / "down")
    assert contents(Path(snapshot)) == contents(folder)
    assert without_xet(hub_server, tmp_path, UPLOAD, "acme/lfs", str(folder)) == commit


def test_git_lfs_in_parts(folder: Path, tmp_path: Path) -> None:
    base = tmp_path / "hub"
    base.mkdir()
    with running_hub(base, "--multipart-above", str(MEGABYTE)) as server:
        without_xet(server, tmp_path, UPLOAD, "acme/parts", str(folder))
        assert "/complete 200" in server.log.read_text()
        snapshot = server.api(False).snapshot_download("acme/parts", local_dir=tmp_path / "down")
        assert contents(Path(snapshot)) == contents(folder)


def test_an_upload_link_is_a_permission_for_one_object(hub_server: HubServer, repo: str) -> None:
    content = b"\0the content"
    oid = hashlib.sha256(content).hexdigest()
    headers = {"Authorization": f"Bearer {hub_server.write_token}"}
    body = {"operation": "upload", "objects": [{"oid": oid, "size": len(content)}]}
    batch = f"{hub_server.endpoint}/{repo}.git/info/lfs/objects/batch"
    answer = httpx2.post(batch, json=body, headers=headers).json()["objects"][0]["actions"]
    link, verify = answer["upload"]["href"], answer["verify"]["href"]
    check = {"oid": oid, "size": len(content)}
    assert (
        httpx2.put(f"{hub_server.endpoint}/lfs/{oid}?size=12", content=content).status_code == 403
    )
    assert httpx2.put(link, content=b"something other").status_code == 400
    assert httpx2.post(verify, json=check, headers=headers).status_code == 404
    assert httpx2.put(link, content=content).status_code == 200
    assert httpx2.post(verify, json=check, headers=headers).status_code == 200


def test_what_the_server_holds_already_can_be_sent_again(
    hub_server: HubServer, tmp_path: Path
) -> None:
    """By a client that knows nothing of the first time: another run, or a second attempt."""
    folder = tmp_path / "folder"
    folder.mkdir()
    content = random.Random(7).randbytes(40 * MEGABYTE)
    (folder / "model.safetensors").write_bytes(content)
    for number, repo in enumerate(("acme/first", "acme/second")):
        by_new_client(hub_server, tmp_path / f"home-{number}", UPLOAD, repo, str(folder))
        path = hub_server.api(False).hf_hub_download(
            repo, "model.safetensors", local_dir=tmp_path / repo
        )
        assert Path(path).read_bytes() == content


@pytest.mark.parametrize("name", ["text.txt", "data.bin"])
def test_ranges(hub_server: HubServer, writer: HfApi, repo: str, name: str) -> None:
    content = b"0123456789" * 10
    writer.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id=repo)
    url = f"{hub_server.endpoint}/{repo}/resolve/main/{name}"

    def get(value: str) -> tuple[int, bytes, str | None]:
        answer = httpx2.get(url, headers={"Range": value})
        return answer.status_code, answer.content, answer.headers.get("Content-Range")

    assert get("bytes=0-4") == (206, b"01234", "bytes 0-4/100")
    assert get("bytes=95-") == (206, b"56789", "bytes 95-99/100")
    assert get("bytes=-3") == (206, b"789", "bytes 97-99/100")
    assert get("bytes=90-1000")[:2] == (206, b"0123456789")
    assert get("bytes=100-")[::2] == (416, "bytes */100")
    head = httpx2.head(url)
    assert (head.status_code, head.headers["Content-Length"]) == (200, "100")
    assert head.headers["X-Repo-Commit"] == writer.model_info(repo).sha
    assert ("X-Linked-Size" in head.headers) == (name == "data.bin")


def test_an_interrupted_download_resumes(
    hub_server: HubServer, writer: HfApi, repo: str, tmp_path: Path
) -> None:
    from huggingface_hub.file_download import http_get

    content = sample(200_000)
    writer.upload_file(path_or_fileobj=content, path_in_repo="data.bin", repo_id=repo)
    file = tmp_path / "partial"
    with file.open("wb") as target:
        target.write(content[:1000])
        url = f"{hub_server.endpoint}/{repo}/resolve/main/data.bin"
        http_get(url, target, resume_size=1000, expected_size=len(content))
    assert file.read_bytes() == content


@pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])
def test_large_files_are_streamed(
    hub_server: HubServer, writer: HfApi, repo: str, tmp_path: Path, xet: bool
) -> None:
    """300 MB through the server raise its memory by far less."""
    base = tmp_path / "large"
    base.mkdir()
    digest = hashlib.sha256()
    with (base / "model.safetensors").open("wb") as file:
        for number in range(300):
            block = random.Random(number).randbytes(MEGABYTE)
            digest.update(block)
            file.write(block)
    before = resident(hub_server.pid)
    if xet:
        writer.upload_folder(repo_id=repo, folder_path=base)
    else:
        without_xet(hub_server, tmp_path, UPLOAD, repo, str(base))
    file_name = hub_server.api(False).hf_hub_download(
        repo, "model.safetensors", cache_dir=tmp_path / "cache"
    )
    with Path(file_name).open("rb") as file:
        assert hashlib.file_digest(file, "sha256").digest() == digest.digest()
    assert resident(hub_server.pid) - before < 150 * MEGABYTE

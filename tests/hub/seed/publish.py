"""A folder to a repository, once: nothing is sent when the repository already has the files.

Also the cache for what is expensive to make. Does not belong here: what the files are.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub import HfApi


class SeedError(RuntimeError):
    """Something could not be made or fetched; the message says what to do."""


def say(message: str) -> None:
    print(f"==> {message}", flush=True)


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "finetune-operator" / "hub"


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache, made in a scratch folder first so that it is whole or absent.

    `name` must carry everything the content depends on.
    """
    target = cache_folder() / name
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        make(made)
        try:
            made.rename(target)
        except OSError:
            # Somebody else was faster; theirs is as good.
            if not target.is_dir():
                raise
    return target


def hashes(path: Path) -> tuple[str, str]:
    """The sha256 of a file and its git blob id."""
    sha256 = hashlib.sha256()
    git = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            sha256.update(chunk)
            git.update(chunk)
    return sha256.hexdigest(), git.hexdigest()


def publish(api: HfApi, repo_id: str, folder: Path, repo_type: str = "model") -> str:
    """Make the repository hold the folder's files; its commit."""
    from huggingface_hub import RepoFile

    api.create_repo(repo_id, repo_type=repo_type, exist_ok=True)
    remote = {
        file.path: file.lfs.sha256 if file.lfs else file.blob_id
        for file in api.list_repo_tree(repo_id, repo_type=repo_type, recursive=True)
        if isinstance(file, RepoFile)
    }
    local = {
        path.relative_to(folder).as_posix(): hashes(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    if all(remote.get(name) in both for name, both in local.items()):
        sha = api.repo_info(repo_id, repo_type=repo_type).sha
        say(f"{repo_id}: unchanged at {sha}")
    else:
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        say(f"{repo_id}: upload of {len(local)} files, {size / 1e6:.1f} MB")
        commit = api.upload_folder(
            repo_id=repo_id, repo_type=repo_type, folder_path=folder, commit_message="Seed"
        )
        sha = commit.oid
        say(f"{repo_id}: uploaded as {sha}")
    return str(sha)

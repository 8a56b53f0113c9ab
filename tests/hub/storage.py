"""Repositories on disk: blobs by sha256, commits as whole trees, references by name.

    ROOT/blobs/ab/abcd…                     content, named by its sha256, never changed
    ROOT/repos/{models,datasets}/OWNER/NAME/repo.json      visibility, branches, tags
    ROOT/repos/…/commits/SHA.json           one commit: parent, message, every path
    ROOT/tmp/                               files on their way to becoming one of the above

Everything is written beside its place, synced and renamed, in the order blob, commit, reference:
killed at any line, a reader sees the state before or the state after.
Does not belong here: HTTP, tokens, and what the client calls things.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

RepoType = Literal["model", "dataset"]
CHUNK = 1 << 20
SHA256 = re.compile(r"[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
REFERENCE = re.compile(r"(?!.*(\.\.|//|@\{))[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}(?<![/.])")


class StorageError(ValueError):
    """The request cannot be stored as asked; the message says what must be."""


@dataclass(frozen=True)
class Entry:
    """One file of a tree. `oid` is git's blob id, of the pointer if the file is an LFS file."""

    sha256: str
    size: int
    oid: str
    lfs: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True)
class Commit:
    """A whole tree with a message; its id is the hash of its content."""

    sha: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: dict[str, Entry]


@dataclass
class Repo:
    """What of a repository can change, apart from its commits."""

    type: RepoType
    id: str
    private: bool = False
    gated: bool = False
    created: str = ""
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def git_oid(size: int, chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def lfs_pointer(sha256: str, size: int) -> bytes:
    version = "https://git-lfs.github.com/spec/v1"
    return f"version {version}\noid sha256:{sha256}\nsize {size}\n".encode()


def check_path(path: str) -> str:
    parts = path.split("/")
    if not path or len(path) > 1000 or any(part in ("", ".", "..", ".git") for part in parts):
        raise StorageError(f"`{path}` is not a path inside a repository")
    if "\0" in path or "\\" in path:
        raise StorageError("a path may not contain a backslash or a null byte")
    return path


def read_chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


class Storage:
    """All state of the server. Methods block: callers in an event loop use a thread."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("blobs", "repos/models", "repos/datasets", "tmp"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for leftover in (root / "tmp").iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        key = root / "secret"
        if not key.exists():
            self._write(key, secrets.token_hex(32).encode())
            key.chmod(0o600)
        self.secret = key.read_bytes()

    # Blobs

    def blob_path(self, sha256: str) -> Path:
        if not SHA256.fullmatch(sha256):
            raise StorageError(f"`{sha256}` is not a sha256")
        return self.root / "blobs" / sha256[:2] / sha256

    def blob_size(self, sha256: str) -> int | None:
        try:
            return self.blob_path(sha256).stat().st_size
        except FileNotFoundError:
            return None

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A new file name; whatever is still there at the end is removed."""
        path = self.root / "tmp" / secrets.token_hex(16)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def adopt_blob(self, path: Path, sha256: str) -> None:
        """Move a closed file whose sha256 the caller has checked into its place."""
        target = self.blob_path(sha256)
        target.parent.mkdir(exist_ok=True)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.replace(target)
        self._sync_folder(target.parent)

    def add_bytes(self, content: bytes) -> Entry:
        """Store a regular file."""
        sha256 = hashlib.sha256(content).hexdigest()
        if self.blob_size(sha256) is None:
            with self.scratch() as path:
                path.write_bytes(content)
                self.adopt_blob(path, sha256)
        return Entry(sha256, len(content), git_oid(len(content), [content]), lfs=False)

    def lfs_entry(self, sha256: str, size: int | None) -> Entry:
        """Refer to an uploaded LFS object."""
        stored = self.blob_size(sha256)
        if stored is None or (size is not None and stored != size):
            raise StorageError(f"LFS object {sha256} was not uploaded")
        pointer = lfs_pointer(sha256, stored)
        return Entry(sha256, stored, git_oid(len(pointer), [pointer]), lfs=True)

    # Repositories

    def _folder(self, repo_type: RepoType, repo_id: str) -> Path:
        owner, _, name = repo_id.partition("/")
        if not NAME.fullmatch(owner) or not NAME.fullmatch(name):
            raise StorageError(f"`{repo_id}` is not of the form OWNER/NAME")
        return self.root / "repos" / f"{repo_type}s" / owner / name

    def create(self, repo_type: RepoType, repo_id: str, private: bool, author: str) -> Repo:
        folder = self._folder(repo_type, repo_id)
        (folder / "commits").mkdir(parents=True, exist_ok=True)
        attributes = self.add_bytes(
            b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
            b"*.parquet filter=lfs diff=lfs merge=lfs -text\n"
            b"*.gguf filter=lfs diff=lfs merge=lfs -text\n"
        )
        repo = Repo(repo_type, repo_id, private=private, created=now())
        files = {".gitattributes": attributes}
        self.commit(repo, "main", files, "initial commit", "", author)
        return repo

    def find(self, repo_type: RepoType, repo_id: str) -> Repo | None:
        try:
            text = (self._folder(repo_type, repo_id) / "repo.json").read_text()
        except (StorageError, FileNotFoundError, NotADirectoryError):
            return None
        return Repo(**json.loads(text))

    def save(self, repo: Repo) -> None:
        target = self._folder(repo.type, repo.id) / "repo.json"
        self._write(target, json.dumps(asdict(repo)).encode())

    def delete(self, repo: Repo) -> None:
        grave = self.root / "tmp" / secrets.token_hex(16)
        self._folder(repo.type, repo.id).rename(grave)
        shutil.rmtree(grave)

    def repos(self, repo_type: RepoType) -> list[Repo]:
        base = self.root / "repos" / f"{repo_type}s"
        found = sorted(path.parent.relative_to(base) for path in base.glob("*/*/repo.json"))
        return [repo for name in found if (repo := self.find(repo_type, str(name)))]

    # Commits and references

    def resolve(self, repo: Repo, revision: str) -> Commit | None:
        """A branch, a tag, or a commit id (whole or its first seven digits or more)."""
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        sha = repo.branches.get(name) or repo.tags.get(name)
        if sha is None and COMMIT.fullmatch(revision):
            sha = revision
        folder = self._folder(repo.type, repo.id) / "commits"
        if sha is None and re.fullmatch(r"[0-9a-f]{7,39}", revision):
            matches = list(folder.glob(f"{revision}*.json"))
            sha = matches[0].stem if len(matches) == 1 else None
        if sha is None:
            return None
        try:
            raw: dict[str, Any] = json.loads((folder / f"{sha}.json").read_text())
        except FileNotFoundError:
            return None
        raw["files"] = {path: Entry(**entry) for path, entry in raw["files"].items()}
        return Commit(**raw)

    def history(self, repo: Repo, commit: Commit | None) -> Iterator[Commit]:
        while commit is not None:
            yield commit
            commit = self.resolve(repo, commit.parent) if commit.parent else None

    def commit(
        self,
        repo: Repo,
        branch: str,
        files: dict[str, Entry],
        title: str,
        message: str,
        author: str,
    ) -> Commit:
        """Write a commit on top of a branch and move the branch to it."""
        content: dict[str, Any] = {
            "parent": repo.branches.get(branch),
            "title": title,
            "message": message,
            "author": author,
            "date": now(),
            "files": {path: asdict(files[path]) for path in sorted(files)},
        }
        text = json.dumps(content, sort_keys=True)
        sha = hashlib.sha1((repo.type + repo.id + text).encode()).hexdigest()
        folder = self._folder(repo.type, repo.id) / "commits"
        self._write(folder / f"{sha}.json", json.dumps({"sha": sha, **content}).encode())
        repo.branches[branch] = sha
        self.save(repo)
        return Commit(**{"sha": sha, **content, "files": files})

    # Files

    def _write(self, target: Path, content: bytes) -> None:
        with self.scratch() as path:
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            path.replace(target)
        self._sync_folder(target.parent)

    def _sync_folder(self, folder: Path) -> None:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

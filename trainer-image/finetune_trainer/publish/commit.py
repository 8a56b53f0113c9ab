"""Files into a Hub repository as one commit, and none when they are there already.

Belongs here: the repository, its branch, and what the Hub's refusals mean to a writer. Does not:
what the files are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.hf_api import RepoFile

from finetune_trainer.hub import Subject, endpoint, hub_errors
from finetune_trainer.layout import is_tokenizer
from finetune_trainer.outcome import RetryableError, UserError, causes

Content = Path | bytes

# A loader that takes every weight file of a repository, or an adapter's config before a model's,
# must not find those of an earlier run.
_STALE = (
    "*.safetensors",
    "*.safetensors.index.json",
    "pytorch_model*.bin",
    "pytorch_model.bin.index.json",
    "adapter_config.json",
    "adapter_model.bin",
)
_FOLDERS = ("", "adapter")
# Loaders take these from a repository's root whether or not the new tokenizer has such a file.
_GENERATION = "generation_config.json"
_TEMPLATES = "additional_chat_templates"
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Published:
    """A commit that holds the files; `created` is False when an earlier call made it."""

    commit: str
    url: str
    created: bool


def publish(
    api: HfApi,
    repository: str,
    branch: str,
    private: bool,
    files: Mapping[str, Content],
    title: str,
    description: str,
) -> Published:
    """Bring `files` (by path in the repository) to the head of `branch` in one commit.

    Weights of an earlier run that are not among `files` are removed by the same commit, and what a
    loader would take for the new tokenizer's; everything else in the repository stays.

    Raises:
        UserError: the token, its rights, the repository's name or its visibility are wrong.
        RetryableError: the Hub cannot be reached, fails, or others keep committing to the branch.
    """
    with _errors(repository, branch):
        _require_repository(api, repository, private)
        if branch != "main":
            api.create_branch(repository, branch=branch, exist_ok=True)
        new = _brings_tokenizer(files)
        for _ in range(_TRIES):
            head = api.repo_info(repository, revision=branch).sha
            there = _tree(api, repository, head) if head else {}
            stale = sorted(
                path for path in there if path not in files and _is_stale(path, new_tokenizer=new)
            )
            if head and not stale and _holds(there, files):
                return Published(head, _url(repository, branch), created=False)
            try:
                made = api.create_commit(
                    repository,
                    [
                        *(
                            CommitOperationAdd(
                                path, content if isinstance(content, bytes) else str(content)
                            )
                            for path, content in files.items()
                        ),
                        *(CommitOperationDelete(path) for path in stale),
                    ],
                    commit_message=title,
                    commit_description=description,
                    revision=branch,
                    parent_commit=head,
                )
            except HfHubHTTPError as error:
                # Someone else committed since the head was read: look again.
                if error.response.status_code not in (409, 412):
                    raise
                continue
            return Published(made.oid, _url(repository, branch), created=True)
    raise RetryableError(
        f"{repository} changed during every one of {_TRIES} tries to commit to {branch}."
    )


def _require_repository(api: HfApi, repository: str, private: bool) -> None:
    api.create_repo(repository, private=private, exist_ok=True)
    if private and not api.repo_info(repository).private:
        raise UserError(
            f"spec.upload.private is true, but {repository} exists on {endpoint()} and is public: "
            "make it private there, or name another spec.upload.repository; then set "
            "spec.rerunToken to a new value to go on from upload."
        )


def _tree(api: HfApi, repository: str, commit: str) -> dict[str, RepoFile]:
    entries = api.list_repo_tree(repository, recursive=True, revision=commit)
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def _holds(there: Mapping[str, RepoFile], files: Mapping[str, Content]) -> bool:
    """Whether every one of `files` is there with the same bytes."""
    return all(path in there and _is_same(there[path], content) for path, content in files.items())


def _is_same(entry: RepoFile, content: Content) -> bool:
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    if entry.size != size:
        return False
    if entry.lfs is not None:
        return entry.lfs.sha256 == _digest("sha256", content, b"")
    # Git names a file's content by the SHA-1 of a short header and the content.
    return entry.blob_id == _digest("sha1", content, b"blob %d\0" % size)


def _digest(algorithm: str, content: Content, prefix: bytes) -> str:
    digest = hashlib.new(algorithm, prefix, usedforsecurity=False)
    if isinstance(content, bytes):
        digest.update(content)
    else:
        with content.open("rb") as stream:
            while data := stream.read(1 << 20):
                digest.update(data)
    return digest.hexdigest()


def _brings_tokenizer(files: Mapping[str, Content]) -> bool:
    return any(is_tokenizer(PurePosixPath(new)) for new in files if "/" not in new)


def _is_stale(path: str, *, new_tokenizer: bool) -> bool:
    folder, _, name = path.rpartition("/")
    if folder in _FOLDERS and any(fnmatchcase(name, pattern) for pattern in _STALE):
        return True
    if not new_tokenizer:
        return False
    return folder == _TEMPLATES or (
        not folder and (name == _GENERATION or is_tokenizer(PurePosixPath(name)))
    )


def _url(repository: str, branch: str) -> str:
    page = f"{endpoint()}/{repository}"
    return page if branch == "main" else f"{page}/tree/{branch}"


@contextmanager
def _errors(repository: str, branch: str) -> Iterator[None]:
    subject = Subject(
        title=f"The upload to {repository}",
        token_field="spec.upload.tokenSecretRef",
        revision_field="spec.upload.branch",
        revision=branch,
        has_token=True,
    )
    with hub_errors(subject):
        try:
            yield
        except Exception as error:
            for cause in causes(error):
                if (refusal := _refusal(cause, repository)) is not None:
                    raise refusal from error
            raise


def _refusal(error: BaseException, repository: str) -> UserError | None:
    """What a refusal means to someone who writes; None for what a reader would be told as well."""
    if isinstance(error, HFValidationError):
        return UserError(
            f'spec.upload.repository "{repository}" is not a valid name: write OWNER/NAME, of '
            "letters, digits, '-', '_' and '.'."
        )
    if not isinstance(error, HfHubHTTPError):
        return None
    status = error.response.status_code
    if status == 401:
        return UserError(
            f"The Hub at {endpoint()} refused the token (spec.upload.tokenSecretRef): it is wrong, "
            "expired or revoked; correct the Secret, then set spec.rerunToken to a new value to go "
            "on from upload."
        )
    if status in (403, 404):
        return UserError(
            f"The token (spec.upload.tokenSecretRef) may not write to {repository} on "
            f"{endpoint()}: use a token with write access to it, or name another "
            "spec.upload.repository; then set spec.rerunToken to a new value to go on from upload."
        )
    return None

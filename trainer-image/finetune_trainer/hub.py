"""What stages that talk to the Hub share: its address, the token files, its errors in words.

Which repository is read or written, and what with, belongs to the stages.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

# The client's own name for its transport: the package behind it has changed before.
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

from finetune_trainer.outcome import RetryableError, StageError, UserError, causes, volume_is_full

SECRETS = "/var/run/secrets/finetune"

# hf_xet has one error for no answer and for one it cannot use; only its words tell them apart.
_XET_STATUS = re.compile(r"HTTP status \w+ error \((\d{3})")


def endpoint() -> str:
    """The Hub's address: `HF_ENDPOINT` as huggingface_hub read it, else the public one."""
    return constants.ENDPOINT


def mount_of(field: str) -> str:
    """The directory that a field of the spec has below the contract's mounts: `datasets[1]` has
    `datasets-1`.
    """
    return field.replace("[", "-").removesuffix("]")


def read_token(field: str) -> str | None:
    """The token mounted for `spec.FIELD`; None, anonymous, if its file is missing or empty.

    Raises:
        UserError: the value is no token. HTTP clients refuse it too, but in words that hold it.
    """
    value = _content(_secrets() / mount_of(field) / "token")
    if not all(0x21 <= byte <= 0x7E for byte in value):
        raise UserError(
            f"The Secret in spec.{field}.tokenSecretRef does not hold a token in that key: a "
            "token is one word of printable ASCII, without spaces or line breaks inside. Set name "
            "and key to a Secret's key that holds the token and nothing else."
        )
    return value.decode() or None


def _secrets() -> Path:
    return Path(os.environ.get("FINETUNE_SECRETS", SECRETS))


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes().strip()
    except FileNotFoundError:
        return b""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a sentence about a failure needs to name.

    Attributes:
        title: as in "Model hf://acme/tiny".
        token_field: the spec's field that holds the token.
        revision_field: the spec's field that holds the revision.
        revision: the revision asked for.
        has_token: whether a token was sent.
    """

    title: str
    token_field: str
    revision_field: str
    revision: str
    has_token: bool


@contextmanager
def hub_errors(subject: Subject) -> Iterator[None]:
    """Turn what huggingface_hub and its transport raise into a sentence and an outcome.

    Raises:
        UserError: the spec names something that is not there or may not be read.
        RetryableError: the Hub cannot be reached, is busy or fails.
        Exception: as it was raised, if it is none of the Hub or came of a full volume.
    """
    try:
        yield
    except StageError:
        raise
    except Exception as error:
        if volume_is_full(error):
            raise
        for link in causes(error):
            if (translated := _translate(link, subject)) is not None:
                raise translated from error
        raise


def _translate(error: BaseException, subject: Subject) -> StageError | None:
    title, token_field = subject.title, subject.token_field
    where = endpoint()
    if isinstance(error, GatedRepoError):
        return UserError(
            f"{title} is gated on {where}: accept its conditions there and set {token_field} "
            "to a token of an account that has access."
        )
    if isinstance(error, RevisionNotFoundError):
        return UserError(
            f'{subject.revision_field} names "{subject.revision}", which {title} does not have: '
            "set a branch, tag or commit that exists."
        )
    if isinstance(error, HFValidationError):
        return UserError(f"{title} is not a valid repository name: write hf://OWNER/NAME.")
    if isinstance(error, HfHubHTTPError):
        return _translate_status(error, subject)
    if isinstance(error, (httpx.TransportError, ConnectionError, TimeoutError)):
        # OfflineModeIsEnabled is a ConnectionError, but trying again does not help.
        if isinstance(error, OfflineModeIsEnabled):
            return UserError(f"{title} cannot be read: HF_HUB_OFFLINE is set in this container.")
        if answered := _XET_STATUS.search(str(error)):
            return _answered(where, int(answered.group(1)), title)
        return RetryableError(
            f"{where} could not be reached for {_inside(title)}: {_words(error)}."
        )
    return None


def _translate_status(error: HfHubHTTPError, subject: Subject) -> StageError:
    title, token_field, where = subject.title, subject.token_field, endpoint()
    status = error.response.status_code
    if status == 401 and subject.has_token:
        return UserError(
            f"{where} refused the token in {token_field} (401): replace it by one that is valid."
        )
    if isinstance(error, RepositoryNotFoundError) or status == 401:
        remedy = (
            f"check the name and that the token in {token_field} may read it"
            if subject.has_token
            else f"check the name, or set {token_field}"
        )
        return UserError(f"{title} was not found on {where}, or it is private: {remedy}.")
    if isinstance(error, DisabledRepoError):
        return UserError(f"{title} was disabled on {where}: choose another one.")
    if status == 403:
        return UserError(
            f"{where} forbids access to {_inside(title)} (403): set {token_field} to a token "
            "that may."
        )
    if status in (408, 429) or status >= 500:
        return _answered(where, status, title)
    return UserError(
        f"{where} refused the request for {_inside(title)} ({status}): {_words(error)}."
    )


def _answered(where: str, status: int, title: str) -> RetryableError:
    return RetryableError(f"{where} answered {status} for {_inside(title)}; trying again can help.")


def _inside(title: str) -> str:
    """The title as it is written within a sentence."""
    return title[:1].lower() + title[1:]


def _words(error: BaseException) -> str:
    """What the error says, without any token: the sentence goes to status, events and logs."""
    text = str(error)
    for file in _secrets().glob("*/token"):
        if token := _content(file).decode(errors="replace"):
            text = text.replace(token, "[token]")
    return (" ".join(text.split()) or type(error).__name__).rstrip(".")[:300]

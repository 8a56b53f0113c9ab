"""What a spec's `source` means: a repository on the Hub at a commit, or files that are mounted.

Which files are taken from there and what they hold belongs to `model.py` and `rows.py`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from huggingface_hub import CardData, HfApi
from huggingface_hub.hf_api import RepoSibling

from finetune_trainer.hub import Subject, endpoint, hub_errors, mount_of, read_token
from finetune_trainer.outcome import UserError

SOURCES = "/sources"
CLAIM, CONFIG_MAP = "claim", "ConfigMap"

Kind = Literal["model", "dataset"]

# As the Hub's cards name them; the last two belong to the license "other".
LICENSE_KEYS = ("license", "license_name", "license_link")


@dataclass(frozen=True, slots=True)
class Commit:
    """A repository at one commit: what was found when the revision was resolved.

    `license` holds those of `LICENSE_KEYS` that the repository's card states.
    """

    sha: str
    files: tuple[RepoSibling, ...]
    license: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class HubSource:
    """`hf://OWNER/NAME` at a revision; `field` is where it stands in the spec, as `datasets[1]`."""

    field: str
    repository: str
    revision: str
    token: str | None

    @property
    def kind(self) -> Kind:
        """The kind of repository."""
        return "model" if self.field == "model" else "dataset"

    @property
    def subject(self) -> Subject:
        """What error sentences need to name."""
        title = "Model" if self.kind == "model" else "Data set"
        return Subject(
            title=f"{title} hf://{self.repository}",
            token_field=f"spec.{self.field}.tokenSecretRef",
            revision_field=f"spec.{self.field}.revision",
            revision=self.revision,
            has_token=self.token is not None,
        )

    def holds(self, file: str) -> bool:
        """Whether a data file's address is on the network; a data set's card may name any."""
        return file.startswith(("hf://", "https://", "http://")) and "::" not in file

    def api(self) -> HfApi:
        """The Hub's client; without a token it is anonymous, whatever the environment holds."""
        return HfApi(endpoint=endpoint(), token=self.token or False)

    def resolve(self) -> Commit:
        """The commit that the revision names now, with its list of files.

        Raises:
            UserError: repository or revision is not there, or may not be read.
            RetryableError: the Hub cannot be reached.
        """
        api = self.api()
        with hub_errors(self.subject):
            info = (
                api.model_info(self.repository, revision=self.revision, files_metadata=True)
                if self.kind == "model"
                else api.dataset_info(self.repository, revision=self.revision)
            )
        if not info.sha:
            raise UserError(f"{self.subject.title} has no commits: upload to it first.")
        return Commit(info.sha, tuple(info.siblings or ()), _license(info.card_data))


@dataclass(frozen=True, slots=True)
class LocalSource:
    """Files below the directory where a claim (`pvc://CLAIM/PATH`) or a ConfigMap
    (`configmap://NAME/KEY`) is mounted.

    Links inside are followed (a cache of the Hub's files is made of them, and so is a ConfigMap),
    links out of it are not: they would reach the token files of this pod.

    Attributes:
        holder: as sentences call it: "claim models".
    """

    field: str
    holder: str
    root: Path
    path: Path

    @property
    def identity(self) -> dict[str, str]:
        """What tells its content from another: it differs when a file does.

        Of a claim's files by size and time of change, as they may be large; those of a ConfigMap
        are made anew for every pod, so their bytes count.
        """
        found = hashlib.sha256()
        files = sorted(path for path in self._files() if path.is_file())
        for file in files:
            stat = file.stat()
            mark = _digest(file) if self.is_small else f"{stat.st_size} {stat.st_mtime_ns}"
            found.update(f"{file.relative_to(self.root)}\0{mark}\0".encode())
        return {"source": self.holder, "commit": found.hexdigest()}

    @property
    def is_small(self) -> bool:
        return self.holder.startswith(CONFIG_MAP)

    def _files(self) -> Iterable[Path]:
        return self.path.rglob("*") if self.path.is_dir() else (self.path,)

    def file(self, name: str) -> Path:
        """A file of the source, behind all links.

        Raises:
            UserError: a link leads out of the mount.
        """
        found = (self.path / name).resolve()
        if not found.is_relative_to(self.root.resolve()):
            place = (self.path / name).relative_to(self.root)
            raise UserError(
                f'spec.{self.field}.source: "{place}" on {self.holder} is a link out of the '
                f"{self.holder.partition(' ')[0]}: put the file itself there."
            )
        return found

    def holds(self, file: str) -> bool:
        """Whether a data file lies on the mount; a data set's card may name any."""
        inside = Path(file).resolve().is_relative_to(self.root.resolve())
        return inside and "://" not in file


Source = HubSource | LocalSource


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _license(card: CardData | None) -> dict[str, str]:
    stated = {key: card.get(key) for key in LICENSE_KEYS} if card is not None else {}
    # A card is anybody's text: only what is one short line ends up in another card's header.
    return {
        key: value
        for key, value in stated.items()
        if isinstance(value, str) and value.isprintable() and 0 < len(value) <= 200
    }


def parse_source(field: str, source: str, revision: str) -> Source:
    """The source that `spec.FIELD.source` names; `field` is model, dataset or datasets[1].

    Raises:
        UserError: it has none of the forms, or its path leaves the mount or is not there.
    """
    if match := re.fullmatch(r"hf://([^/\s]+/[^/\s]+)", source):
        return HubSource(field, match.group(1), revision, read_token(field))
    if match := re.fullmatch(r"pvc://([^/\s]+)(?:/(.*))?", source):
        return _mounted(field, f"{CLAIM} {match.group(1)}", match.group(2) or ".")
    if field == "model":
        raise UserError(
            f'spec.model.source is "{source}": write hf://OWNER/NAME or pvc://CLAIM/PATH.'
        )
    if match := re.fullmatch(r"configmap://([^/\s]+)/([^/\s]+)", source):
        return _mounted(field, f"{CONFIG_MAP} {match.group(1)}", match.group(2))
    raise UserError(
        f'spec.{field}.source is "{source}": write hf://OWNER/NAME, pvc://CLAIM/PATH or '
        "configmap://NAME/KEY."
    )


def _mounted(field: str, holder: str, name: str) -> LocalSource:
    below = PurePosixPath(name)
    if below.is_absolute() or ".." in below.parts:
        raise UserError(f"spec.{field}.source must stay inside its claim: write no '..' in it.")
    root = Path(os.environ.get("FINETUNE_SOURCES", SOURCES)) / mount_of(field)
    path = root / below
    if not path.exists():
        raise UserError(
            f'spec.{field}.source names "{below}", which {holder} does not hold: check the path.'
        )
    found = LocalSource(field, holder, root, path)
    found.file(".")
    return found

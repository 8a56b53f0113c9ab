"""What a spec's `source` means: a repository on the Hub at a commit, or a path on a mounted claim.

Which files are taken from there and what they hold belongs to `model.py` and `rows.py`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from huggingface_hub import CardData, HfApi
from huggingface_hub.hf_api import RepoSibling

from finetune_trainer.hub import Subject, endpoint, hub_errors, read_token
from finetune_trainer.outcome import UserError

SOURCES = "/sources"

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
    """`hf://OWNER/NAME` at a revision."""

    kind: Kind
    repository: str
    revision: str
    token: str | None

    @property
    def subject(self) -> Subject:
        """What error sentences need to name."""
        title = "Model" if self.kind == "model" else "Data set"
        return Subject(
            title=f"{title} hf://{self.repository}",
            token_field=f"spec.{self.kind}.tokenSecretRef",
            revision_field=f"spec.{self.kind}.revision",
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
class ClaimSource:
    """`pvc://CLAIM/PATH`, found below the directory where the claim is mounted.

    Links inside the claim are followed (a cache of the Hub's files is made of them), links out of
    it are not: they would reach the token files of this pod.
    """

    kind: Kind
    claim: str
    root: Path
    path: Path

    def file(self, name: str) -> Path:
        """A file of the source, behind all links.

        Raises:
            UserError: a link leads out of the claim.
        """
        found = (self.path / name).resolve()
        if not found.is_relative_to(self.root.resolve()):
            raise UserError(
                f'spec.{self.kind}.source: "{name}" on claim {self.claim} is a link out of the '
                "claim: put the file itself there."
            )
        return found

    def holds(self, file: str) -> bool:
        """Whether a data file lies on the claim; a data set's card may name any."""
        inside = Path(file).resolve().is_relative_to(self.root.resolve())
        return inside and "://" not in file


def _license(card: CardData | None) -> dict[str, str]:
    stated = {key: card.get(key) for key in LICENSE_KEYS} if card is not None else {}
    # A card is anybody's text: only what is one short line ends up in another card's header.
    return {
        key: value
        for key, value in stated.items()
        if isinstance(value, str) and value.isprintable() and 0 < len(value) <= 200
    }


def parse_source(kind: Kind, source: str, revision: str) -> HubSource | ClaimSource:
    """The source that `spec.model.source` or `spec.dataset.source` names.

    Raises:
        UserError: it has neither of the two forms, or its path leaves the claim or is not there.
    """
    if match := re.fullmatch(r"hf://([^/\s]+/[^/\s]+)", source):
        return HubSource(kind, match.group(1), revision, read_token(kind))
    if match := re.fullmatch(r"pvc://([^/\s]+)(?:/(.*))?", source):
        claim, below = match.group(1), PurePosixPath(match.group(2) or ".")
        if below.is_absolute() or ".." in below.parts:
            raise UserError(f"spec.{kind}.source must stay inside its claim: write no '..' in it.")
        root = Path(os.environ.get("FINETUNE_SOURCES", SOURCES)) / kind
        path = root / below
        if not path.exists():
            raise UserError(
                f'spec.{kind}.source names "{below}", which claim {claim} does not hold: '
                "check the path."
            )
        found = ClaimSource(kind, claim, root, path)
        found.file(".")
        return found
    raise UserError(f'spec.{kind}.source is "{source}": write hf://OWNER/NAME or pvc://CLAIM/PATH.')

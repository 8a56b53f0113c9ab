"""The base model's files: chosen, brought into the workspace, and verified.

A record beside the files says what they are and which of them are verified, so that nothing is
fetched twice and a broken file is noticed. Whether the model suits the plan belongs to
`suitability.py`, whether its weights are whole to `wholeness.py`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from finetune_trainer.hub import hub_errors
from finetune_trainer.outcome import RetryableError, UserError
from finetune_trainer.prepare.source import Commit, HubSource, LocalSource
from finetune_trainer.weights import INDEX, SINGLE, BrokenWeightsError, read_header, read_index
from finetune_trainer.workspace import sync, write_json

RECORD = ".finetune.json"
# Beside the weights: configuration, tokenizers of every kind, chat template, licence.
COMPANIONS = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "LICENSE*", "NOTICE*")


@dataclass(frozen=True, slots=True)
class File:
    """A file as its origin describes it; `sha256` only where the origin knows it."""

    size: int | None
    sha256: str | None = None


class Delivery:
    """A model's files on their way into `directory`, a few at a time.

    What another model left there is removed; what is there of this one is not fetched again.

    Args:
        identity: what tells this model from another one, for the record.
        files: the files that may be asked for; any other one is removed.
        fetch: brings files, by name, into `directory`.
    """

    def __init__(
        self,
        directory: Path,
        identity: Mapping[str, str],
        files: Mapping[str, File],
        fetch: Callable[[Sequence[str]], None],
    ) -> None:
        self._directory = directory
        self._identity = identity
        self._files = files
        self._fetch = fetch
        self._overridden: set[str] = set()
        self._verified = self._find()
        self._record()

    def bring(self, names: Iterable[str]) -> None:
        """Fetch those of `names` that are not there yet, and verify them.

        Raises:
            UserError: the origin may not be read.
            RetryableError: the origin failed, or a file differs from what it lists.
        """
        wanted = sorted(set(names) - self._verified)
        if not wanted:
            return
        self._fetch([name for name in wanted if not self._is_whole(name)])
        for name in wanted:
            self._verify(name)
        self._verified.update(wanted)
        self._record()

    def finish(self) -> None:
        """Remove the Hub client's notes, by which an interrupted download resumes until then."""
        shutil.rmtree(self._directory / ".cache", ignore_errors=True)

    def override(self, files: Mapping[str, bytes]) -> None:
        """Replace files for this plan; the next plan's delivery brings the originals back."""
        self._overridden.update(files)
        self._verified.difference_update(files)
        # Before the files: a kill in between must not leave a replaced file that counts as whole.
        self._record()
        for name, content in files.items():
            (self._directory / name).write_bytes(content)

    def _find(self) -> set[str]:
        """The verified files of an earlier delivery of this model, after removing all others."""
        try:
            known = json.loads((self._directory / RECORD).read_bytes())
        except (FileNotFoundError, ValueError):
            known = {}
        if any(known.get(key) != value for key, value in self._identity.items()):
            if self._directory.exists():
                shutil.rmtree(self._directory)
            self._directory.mkdir(parents=True)
            return set()
        for name in known.get("overridden", ()):
            (self._directory / name).unlink(missing_ok=True)
        for path in self._directory.iterdir():
            if path.is_file() and path.name != RECORD and path.name not in self._files:
                path.unlink()
        return {
            name
            for name in known.get("verified", ())
            if self._is_whole(name) and not (is_weights(name) and self._is_broken(name))
        }

    def _record(self) -> None:
        write_json(
            self._directory / RECORD,
            {
                **self._identity,
                "verified": {
                    name: asdict(self._files[name])
                    for name in sorted(self._verified & self._files.keys())
                },
                "overridden": sorted(self._overridden),
            },
        )

    def _is_whole(self, name: str) -> bool:
        file = self._files.get(name)
        try:
            size = (self._directory / name).stat().st_size
        except FileNotFoundError:
            return False
        return file is not None and file.size in (None, size)

    def _is_broken(self, name: str) -> bool:
        """Whether a file of weights, as long as it should be, has rotten where that is seen."""
        try:
            read_header(self._directory / name)
        except BrokenWeightsError:
            (self._directory / name).unlink()
            return True
        return False

    def _verify(self, name: str) -> None:
        path, expected = self._directory / name, self._files[name].sha256
        if not self._is_whole(name) or (expected and _sha256(path) != expected):
            path.unlink(missing_ok=True)
            raise RetryableError(
                f"{name} of {self._identity['source']} arrived damaged and was removed."
            )
        sync(path)


def choose_files(names: Iterable[str], origin: str) -> list[str]:
    """Which of a repository's files may belong to a model that transformers loads from safetensors.

    Files in folders are other formats (`original/`, `onnx/`) and are left out.

    Raises:
        UserError: there is no whole model in safetensors.
    """
    top = [name for name in names if "/" not in name]
    if "config.json" not in top:
        hint = (
            "is a LoRA adapter, not a whole model: set spec.model.source to its base model"
            if "adapter_config.json" in top
            else "has no config.json: set spec.model.source to a model in Hugging Face layout"
        )
        raise UserError(f"{origin} {hint}.")
    if not {INDEX, SINGLE} & set(top):
        others = [name for name in top if name.endswith((".bin", ".gguf", ".pt", ".pth", ".h5"))]
        found = f"only {others[0]}" if others else "no weights"
        raise UserError(
            f"{origin} has {found}: set spec.model.source to a model with safetensors weights."
        )
    return sorted(
        name
        for name in top
        if name != "model_index.json"
        and (is_weights(name) or any(fnmatchcase(name, pattern) for pattern in COMPANIONS))
    )


def is_weights(name: str) -> bool:
    """Whether a file holds weights; which of them count is what `choose_weights` says."""
    return name.endswith(".safetensors")


def choose_weights(directory: Path, names: Iterable[str], origin: str) -> list[str]:
    """Which of a repository's files are the weights: those of the index in `directory`, if any.

    Raises:
        UserError: the index is damaged, or names a file that the repository does not have.
    """
    try:
        index = read_index(directory)
    except BrokenWeightsError as error:
        raise UserError(
            f"{origin} is broken: {error}; set spec.model.source to another."
        ) from error
    weights = sorted({SINGLE} if index is None else set(index.values()))
    if missing := sorted(set(weights) - set(names)):
        raise UserError(
            f"{origin} is incomplete: it has no {missing[0]}, which {INDEX} names; complete it, or "
            "set spec.model.source to a model that is whole."
        )
    return weights


def from_hub(source: HubSource, commit: Commit, names: list[str], directory: Path) -> Delivery:
    """The delivery of `names` at `commit`, resuming what an earlier try left."""

    def fetch(wanted: Sequence[str]) -> None:
        if not wanted:  # to the client that would mean all files
            return
        with hub_errors(source.subject):
            source.api().snapshot_download(
                source.repository,
                revision=commit.sha,
                local_dir=directory,
                allow_patterns=[_literal(name) for name in wanted],
            )

    files = {
        sibling.rfilename: File(sibling.size, sibling.lfs.sha256 if sibling.lfs else None)
        for sibling in commit.files
        if sibling.rfilename in set(names)
    }
    return Delivery(directory, {"source": source.repository, "commit": commit.sha}, files, fetch)


def from_claim(source: LocalSource, names: list[str], directory: Path) -> Delivery:
    """The delivery of `names` from a claim; with other sizes or times they are another model.

    Raises:
        UserError: one is a link out of the claim.
    """
    originals = {name: source.file(name) for name in sorted(names)}

    def fetch(wanted: Sequence[str]) -> None:
        for name in wanted:
            shutil.copyfile(originals[name], directory / name)

    stats = {name: original.stat() for name, original in originals.items()}
    times = {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}
    identity = {
        "source": source.holder,
        "commit": hashlib.sha256(json.dumps(times).encode()).hexdigest(),
    }
    files = {name: File(stat.st_size) for name, stat in stats.items()}
    return Delivery(directory, identity, files, fetch)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _literal(name: str) -> str:
    return name.replace("[", "[[]")

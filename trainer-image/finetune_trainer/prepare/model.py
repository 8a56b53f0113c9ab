"""The base model's files: chosen, fetched or copied into the workspace, and verified.

A record beside the files says what they are, so that a complete model is not fetched again and a
broken one is noticed. Whether the model suits the plan belongs to `suitability.py`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from finetune_trainer.hub import hub_errors
from finetune_trainer.outcome import RetryableError, UserError
from finetune_trainer.prepare.source import ClaimSource, Commit, HubSource
from finetune_trainer.workspace import write_json

RECORD = ".finetune.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARDS = "model-*.safetensors"
# Beside the weights: configuration, tokenizers of every kind, chat template, licence.
COMPANIONS = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "LICENSE*", "NOTICE*")


@dataclass(frozen=True, slots=True)
class File:
    """A file as its origin describes it; `sha256` only where the origin knows it."""

    size: int | None
    sha256: str | None = None


def choose_files(names: list[str], origin: str) -> list[str]:
    """Which of a repository's files make a model that transformers loads from safetensors.

    Files in folders are other formats (`original/`, `onnx/`) and are left out, and so are other
    weights beside the safetensors.

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
    if INDEX in top:
        weights = [name for name in top if fnmatchcase(name, SHARDS)]
    elif WEIGHTS in top:
        weights = [WEIGHTS]
    else:
        others = [name for name in top if name.endswith((".bin", ".gguf", ".pt", ".pth", ".h5"))]
        found = f"only {others[0]}" if others else "no weights"
        raise UserError(
            f"{origin} has {found}: set spec.model.source to a model with safetensors weights."
        )
    unwanted = {"model_index.json"} if INDEX in top else {"model_index.json", INDEX}
    companions = [
        name
        for name in top
        if any(fnmatchcase(name, pattern) for pattern in COMPANIONS) and name not in unwanted
    ]
    return sorted({*weights, *companions})


def fetch_from_hub(source: HubSource, commit: Commit, names: list[str], directory: Path) -> None:
    """Bring `names` at `commit` into `directory`, resuming what an earlier try left.

    Raises:
        UserError: the repository may not be read.
        RetryableError: the Hub failed, or a file differs from what the Hub lists.
    """
    files = {
        sibling.rfilename: File(sibling.size, sibling.lfs.sha256 if sibling.lfs else None)
        for sibling in commit.files
        if sibling.rfilename in set(names)
    }
    record: dict[str, Any] = {"source": source.repository, "commit": commit.sha}
    if _begin(directory, record, files):
        return
    with hub_errors(source.subject):
        source.api().snapshot_download(
            source.repository,
            revision=commit.sha,
            local_dir=directory,
            allow_patterns=[_literal(name) for name in names],
        )
    _finish(directory, record, files)


def copy_from_claim(source: ClaimSource, names: list[str], directory: Path) -> None:
    """Copy `names` from the claim into `directory`; files that are already there as they are stay.

    Raises:
        UserError: one is a link out of the claim.
        RetryableError: a file changed while it was copied.
    """
    originals = {name: source.file(name) for name in names}
    stats = {name: original.stat() for name, original in originals.items()}
    record = {
        "source": f"pvc://{source.claim}",
        "commit": hashlib.sha256(
            json.dumps(
                {name: [stat.st_size, stat.st_mtime_ns] for name, stat in sorted(stats.items())}
            ).encode()
        ).hexdigest(),
    }
    files = {name: File(stat.st_size) for name, stat in stats.items()}
    if _begin(directory, record, files):
        return
    for name, original in originals.items():
        if not _is_whole(directory / name, files[name]):
            shutil.copyfile(original, directory / name)
    _finish(directory, record, files)


def fetch_config(source: HubSource, commit: Commit, directory: Path) -> None:
    """Bring only `config.json`, so that an unsuitable model costs no download of weights."""
    with hub_errors(source.subject):
        source.api().hf_hub_download(
            source.repository, "config.json", revision=commit.sha, local_dir=directory
        )


def override(directory: Path, files: Mapping[str, bytes]) -> None:
    """Replace files of a complete model for this plan; the next fetch brings the originals back."""
    record = json.loads((directory / RECORD).read_bytes())
    write_json(directory / RECORD, {**record, "complete": False, "overridden": sorted(files)})
    for name, content in files.items():
        (directory / name).write_bytes(content)


def _begin(directory: Path, record: Mapping[str, Any], files: Mapping[str, File]) -> bool:
    """Make `directory` ready for this record's files; True if they are all there already."""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        known = json.loads((directory / RECORD).read_bytes())
    except (FileNotFoundError, ValueError):
        known = {}
    if any(known.get(key) != value for key, value in record.items()):
        shutil.rmtree(directory)
        directory.mkdir()
        write_json(directory / RECORD, {**record, "complete": False})
        return False
    for name in known.get("overridden", ()):
        (directory / name).unlink(missing_ok=True)
    _remove_strangers(directory, files)
    return bool(known.get("complete")) and all(
        _is_whole(directory / name, file) for name, file in files.items()
    )


def _finish(directory: Path, record: Mapping[str, Any], files: Mapping[str, File]) -> None:
    for name, file in files.items():
        path = directory / name
        if not _is_whole(path, file) or (file.sha256 and _sha256(path) != file.sha256):
            path.unlink(missing_ok=True)
            raise RetryableError(f"{name} of {record['source']} arrived damaged and was removed.")
    # The client's own notes; kept until here because an interrupted download resumes by them.
    shutil.rmtree(directory / ".cache", ignore_errors=True)
    described = {name: asdict(file) for name, file in files.items()}
    write_json(directory / RECORD, {**record, "complete": True, "files": described})


def _remove_strangers(directory: Path, files: Mapping[str, File]) -> None:
    for path in directory.iterdir():
        if path.is_file() and path.name != RECORD and path.name not in files:
            path.unlink()


def _is_whole(path: Path, file: File) -> bool:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return False
    return file.size is None or size == file.size


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _literal(name: str) -> str:
    return name.replace("[", "[[]")

"""Prepared data that serve another plan: what they depend on, as a key, and what is noted of them.

A plan with another learning rate tokenizes the same rows in the same way. Whatever is not known to
make no difference is part of the key, so that a new setting costs time and never the right data.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from finetune_trainer.data.examples import BrokenExamplesError, Examples
from finetune_trainer.layout import is_tokenizer
from finetune_trainer.prepare.data import Counts, Origin, Written
from finetune_trainer.prepare.source import HubSource
from finetune_trainer.prepare.tally import Tally
from finetune_trainer.run import Run
from finetune_trainer.workspace import Workspace, write_json

# Another number when the same rows, settings and tokenizer would become other examples.
FORMATTER = 3
LIBRARIES = ("datasets", "tokenizers", "transformers")
META = "meta.json"

# Of the plan; the model counts by its tokenizer's files, the data by their content.
_WITHOUT_EFFECT = {
    "name",
    "namespace",
    "plan_hash",
    "continues",
    "model",
    "method",
    "training",
    "resources",
    "parallelism",
    "tracking",
    "merge",
    "upload",
}


def data_key(run: Run, origins: Iterable[Origin], model: Path, vocabulary: int) -> str:
    """What the examples of this plan are made of, as a hash.

    Args:
        model: the directory with the tokenizer as the run has it, its chat template replaced.
        vocabulary: how many tokens the model knows.
    """
    origins = list(origins)
    drawn = any(
        origin.spec.weight is not None
        or (origin.spec.validation is not None and origin.spec.validation.fraction is not None)
        for origin in origins
    )
    # A revision may be another name of the same commit.
    where = {"source", "revision"}
    parts = {
        "formatter": FORMATTER,
        "libraries": {name: version(name) for name in LIBRARIES},
        "data": [[_identity(origin), origin.spec.model_dump(exclude=where)] for origin in origins],
        "sequenceLength": run.training.sequence_length,
        "seed": run.training.seed if drawn else None,
        "tokenizer": {
            file.name: hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(model.iterdir())
            if file.is_file() and is_tokenizer(file)
        },
        "vocabulary": vocabulary,
        "others": run.model_dump(exclude=_WITHOUT_EFFECT | {"dataset", "datasets"}),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _identity(origin: Origin) -> Mapping[str, str]:
    source = origin.source
    if isinstance(source, HubSource):
        assert origin.commit is not None, "a Hub source is resolved before it is named"
        # One with the same name on another Hub has other commits.
        return {"source": source.repository, "commit": origin.commit.sha}
    return {**source.identity, "path": str(source.path.relative_to(source.root))}


def describe(run: Run, key: str, written: Written) -> dict[str, Any]:
    """`data/meta.json`: whose the data are, what they are made of and what was counted."""
    return {
        "planHash": run.plan_hash,
        "key": key,
        "counts": {
            field: {
                "train": _tally(counts.train),
                "validation": _tally(counts.validation) if counts.validation else None,
                "leftOut": counts.left_out,
            }
            for field, counts in written.counts.items()
        },
        "stops": sorted(written.stops),
    }


def kept_data(run: Run, key: str, workspace: Workspace) -> Written | None:
    """What the data in the workspace hold, which are now this plan's; None if they are others."""
    try:
        meta = json.loads((workspace.data / META).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if meta.get("key") != key or not _are_whole(workspace):
        return None
    # Counts are by field, and one data set may have become the only one of a list.
    counts = {
        field: Counts(
            train=_read(value["train"]),
            validation=_read(value["validation"]) if value["validation"] else None,
            left_out=value["leftOut"],
        )
        for field, value in zip(run.data, meta["counts"].values(), strict=True)
    }
    write_json(workspace.data / META, {**meta, "planHash": run.plan_hash})
    return Written(counts, frozenset(meta["stops"]))


def _are_whole(workspace: Workspace) -> bool:
    try:
        for directory in (workspace.data / "train", workspace.data / "validation"):
            if directory.name == "train" or directory.exists():
                Examples(directory)
    except BrokenExamplesError:
        return False
    return True


def _tally(tally: Tally) -> dict[str, Any]:
    return {"rows": tally.rows, "split": tally.split, "dropped": dict(tally.dropped)}


def _read(value: Mapping[str, Any]) -> Tally:
    dropped = Counter(value["dropped"])
    return Tally(rows=value["rows"], split=value["split"], dropped=dropped)

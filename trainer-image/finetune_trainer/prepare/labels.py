"""The labels of a data set: found in its rows, numbered, and told to the model's configuration.

A column of the `datasets` library's class labels names them in their order; of any other column
they are what occurs in the training split, sorted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel
from numpy.typing import NDArray
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from finetune_trainer.architecture import class_names
from finetune_trainer.data.examples import Examples
from finetune_trainer.outcome import UserError
from finetune_trainer.prepare.format import Dropped
from finetune_trainer.prepare.rows import Rows
from finetune_trainer.run import Task

FILE = "labels.json"
# More would be text or numbers to predict, not classes.
MOST = 10_000


@dataclass(frozen=True, slots=True)
class LabelColumn:
    """A column with a label, or a list of labels, in every row; `names` if its type names them."""

    column: str
    names: tuple[str, ...] | None

    @classmethod
    def of(cls, rows: Rows, column: str) -> LabelColumn:
        """The column as its type describes it."""
        kind = rows.features[column]
        kind = getattr(kind, "feature", kind)
        return cls(column, tuple(kind.names) if isinstance(kind, ClassLabel) else None)

    def name(self, value: Any) -> str:
        """The label that a cell, or an item of its list, holds.

        Raises:
            Dropped: it holds none.
        """
        if isinstance(value, bool):
            return str(value)
        if isinstance(value, int):
            if self.names is None:
                return str(value)
            if 0 <= value < len(self.names):
                return self.names[value]
        if isinstance(value, str) and value.strip():
            return value.strip()
        raise Dropped(f'column "{self.column}" holds no label')

    def all(self, value: Any) -> list[str]:
        """The labels of one row, if it has any."""
        values = value if isinstance(value, list) else [value]
        try:
            return [self.name(each) for each in values]
        except Dropped:
            return []


def occurring(column: LabelColumn, rows: Rows, field: str) -> set[str]:
    """The labels in `rows`.

    Raises:
        UserError: there are too many to be classes.
    """
    found: set[str] = set()
    for batch in rows.batches([column.column]):
        for value in batch.column(0).to_pylist():
            found.update(column.all(value))
        if len(found) > MOST:
            raise UserError(
                f'spec.{field}.format names column "{column.column}", which has more than '
                f"{MOST:,} labels: name a column of classes."
            )
    return found


def codes(column: LabelColumn, rows: Rows, names: Sequence[str]) -> NDArray[np.int64]:
    """The number of each row's label, shape [rows]; -1 where there is none."""
    numbers = {name: number for number, name in enumerate(names)}
    parts = [
        [
            numbers.get(next(iter(column.all(value)), ""), -1)
            for value in batch.column(0).to_pylist()
        ]
        for batch in rows.batches([column.column])
    ]
    return np.array([code for part in parts for code in part], dtype=np.int64)


def ordered(columns: Iterable[LabelColumn], found: set[str]) -> tuple[str, ...]:
    """All labels by their numbers: as the columns' types have them, then others, numbers by size.

    Raises:
        UserError: there is only one.
    """
    named = dict.fromkeys(name for column in columns for name in column.names or ())
    others = sorted(found - named.keys(), key=lambda name: (not name.isdecimal(), len(name), name))
    if not all(name.isdecimal() for name in others):
        others.sort()
    names = (*named, *others)
    if len(found) < 2:
        only = f' ("{next(iter(found))}")' if found else ""
        raise UserError(
            f"The training data has {len(found)} label{only}, and there is nothing to tell apart: "
            "check the label's column in spec.dataset.format, and spec.dataset.split."
        )
    return names


def require_trained(directory: Path, names: Sequence[str]) -> None:
    """Refuse examples in `directory` that teach nothing, or ask for what was never trained.

    Raises:
        UserError: the training examples have only one label, or the held-out ones one more.
    """
    trained = Examples(directory / "train").distinct_labels
    if len(trained) < 2:
        raise UserError(
            f'Every training example has label "{names[min(trained)]}", and there is nothing to '
            "tell apart: check the label's column in spec.dataset.format, and spec.dataset.split."
        )
    validation = directory / "validation"
    held_out = Examples(validation).distinct_labels if validation.exists() else set()
    if unseen := sorted(held_out - trained):
        raise UserError(
            f'The held-out rows have label "{names[unseen[0]]}", which no training row has '
            f"({len(unseen)} such labels): set spec.dataset.validation.stratified, or another "
            "validation split."
        )


def write_labels(directory: Path, names: Sequence[str]) -> None:
    """Keep the labels beside the examples."""
    (directory / FILE).write_text(json.dumps(list(names), ensure_ascii=False), encoding="utf-8")


def read_labels(directory: Path) -> list[str]:
    """What `write_labels` wrote; none of a task without labels."""
    try:
        return list(json.loads((directory / FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return []


def configured(
    directory: Path,
    names: Sequence[str],
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
) -> dict[str, bytes]:
    """The model's config.json, by name, that knows the labels; nothing where there are none.

    A model that reads the label at a row's last token has to know the padding token.
    """
    if not names:
        return {}
    path = directory / "config.json"
    settings: dict[str, Any] = json.loads(path.read_bytes())
    settings["architectures"] = class_names(task)[config.model_type][:1]
    settings["id2label"] = {str(number): name for number, name in enumerate(names)}
    settings["label2id"] = {name: number for number, name in enumerate(names)}
    settings.pop("num_labels", None)
    if task is Task.CLASSIFICATION:
        settings["problem_type"] = "single_label_classification"
    if config.get_text_config().pad_token_id is None:
        padding = tokenizer.pad_token_id
        settings["pad_token_id"] = tokenizer.eos_token_id if padding is None else padding
    return {path.name: json.dumps(settings, indent=2, ensure_ascii=False).encode()}

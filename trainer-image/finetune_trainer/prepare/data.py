"""The run's data sets, from their sources to the examples of both splits.

Held-out rows are set apart first, then the sets' shares are drawn, then rows become tokens. What a
row means, how it is tokenized and how the numbers are shown belongs to other modules.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from datasets import Value
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from finetune_trainer.data.examples import Block, Examples, write_examples
from finetune_trainer.outcome import UserError
from finetune_trainer.prepare.encode import Encoder
from finetune_trainer.prepare.format import RowReader, require_column, row_reader
from finetune_trainer.prepare.labelled import LabelledEncoder, label_column, labelled_reader
from finetune_trainer.prepare.labels import (
    LabelColumn,
    codes,
    occurring,
    ordered,
    require_trained,
    write_labels,
)
from finetune_trainer.prepare.loader import RowSource
from finetune_trainer.prepare.mixing import draw, shares
from finetune_trainer.prepare.pipeline import Encodes, Pipeline
from finetune_trainer.prepare.preference import AnswerEncoder, preference_reader
from finetune_trainer.prepare.rows import Rows
from finetune_trainer.prepare.source import Commit, HubSource, Source, parse_source
from finetune_trainer.prepare.split import stratified_rows, validation_rows
from finetune_trainer.prepare.tally import Tally
from finetune_trainer.prepare.template import ChatTemplate
from finetune_trainer.run import DatasetSource, Run, Task, Validation

Chosen = NDArray[np.bool_]
TEXTS = (Value("string"), Value("large_string"))


@dataclass(frozen=True, slots=True)
class Origin:
    """A data set where it comes from; `field` is its name below spec, `commit` the Hub's."""

    field: str
    spec: DatasetSource
    source: Source
    commit: Commit | None

    def __str__(self) -> str:
        at = f" at {self.commit.sha[:12]}" if self.commit else ""
        return f"{self.spec.source}{at}"


def find_data(run: Run) -> list[Origin]:
    """Every data set of the run, resolved to a commit; none of its rows is read.

    Raises:
        UserError: a source is not there or may not be read.
        RetryableError: the Hub failed.
    """
    origins = []
    for field, spec in run.data.items():
        source = parse_source(field, spec.source, spec.revision)
        commit = source.resolve() if isinstance(source, HubSource) else None
        origins.append(Origin(field, spec, source, commit))
    return origins


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the rows of one data set; `left_out` are those beyond its share."""

    train: Tally
    validation: Tally | None
    left_out: int


@dataclass(frozen=True, slots=True)
class Written:
    """The data as written: counts by the data set's field, and the tokens that end a turn."""

    counts: Mapping[str, Counts]
    stops: frozenset[int]


class _Encoders:
    """The run's encoders: one chat template, probed once, whichever data sets need it."""

    def __init__(self, run: Run, tokenizer: PreTrainedTokenizerBase, labels: Sequence[str]) -> None:
        self._run = run
        self._labels = labels
        self._tokenizer = tokenizer
        self.stops: frozenset[int] = frozenset()

    @cached_property
    def _template(self) -> ChatTemplate:
        return ChatTemplate(self._tokenizer)

    def encoder(self, spec: DatasetSource, *, is_chat: bool) -> Encodes:
        capacity = self._run.training.sequence_length
        if self._run.task.has_labels:
            return LabelledEncoder(self._tokenizer, self._labels, capacity=capacity)
        template = self._template if is_chat else None
        self.stops |= template.stops if template else {self._tokenizer.eos_token_id}
        if self._run.task is Task.PREFERENCE:
            encoder = Encoder(self._tokenizer, template, loss=spec.loss, capacity=sys.maxsize)
            return AnswerEncoder(encoder, capacity=capacity)
        return Encoder(self._tokenizer, template, loss=spec.loss, capacity=capacity)


class _DataSet:
    """One data set, its rows read and the held-out ones set apart."""

    def __init__(self, origin: Origin, loader: RowSource, seed: int) -> None:
        self.origin = origin
        self.rows = loader.read(f"spec.{origin.field}.split", origin.spec.split)
        self.training: Chosen = np.ones(len(self.rows), dtype=np.bool_)
        self.held_out: tuple[Rows, Chosen] | None = None
        self.available = len(self.rows)
        validation = origin.spec.validation
        if validation is not None and validation.split is not None:
            other = self._other_split(loader, validation.split)
            self.held_out = other, np.ones(len(other), dtype=np.bool_)
        elif validation is not None and validation.fraction is not None:
            chosen = self._drawn(validation, validation.fraction, seed)
            self.held_out = self.rows, chosen
            self.training = ~chosen
            self.available -= int(chosen.sum())

    def _drawn(self, validation: Validation, fraction: float, seed: int) -> Chosen:
        field = self.origin.field
        if not validation.stratified:
            return validation_rows(len(self.rows), fraction, seed, field)
        column = self.label_column(self.rows)
        assert column is not None, "only classes are stratified"
        names = sorted(occurring(column, self.rows, field))
        return stratified_rows(codes(column, self.rows, names), fraction, seed, field)

    def label_column(self, rows: Rows) -> LabelColumn | None:
        """Of a format that has one."""
        spec, field = self.origin.spec, self.origin.field
        if (name := label_column(spec.format)) is None:
            return None
        require_column(f"spec.{field}.format", name, rows.column_names)
        return LabelColumn.of(rows, name)

    def _other_split(self, loader: RowSource, split: str) -> Rows:
        field, own = f"spec.{self.origin.field}", self.origin.spec.split
        other = loader.read(f"{field}.validation.split", split)
        if shared := loader.shared_rows(own, split):
            raise UserError(
                f'{field}.validation.split "{split}" has {shared:,} rows of {field}.split '
                f'"{own}", and a row that is trained on proves nothing: set slices that share no '
                f"row, or {field}.validation.fraction."
            )
        return other

    def pipeline(self, rows: Rows, encoders: _Encoders, vocabulary: int) -> Pipeline:
        """How `rows` of this data set become examples."""
        spec = self.origin.spec
        reader = self._reader(rows)
        return Pipeline(reader, encoders.encoder(spec, is_chat=reader.is_chat), vocabulary)

    def _reader(self, rows: Rows) -> RowReader:
        format, field = self.origin.spec.format, self.origin.field
        where = f"spec.{field}.format"
        if format.preference is not None:
            texts = [name for name, kind in rows.features.items() if kind in TEXTS]
            return preference_reader(format.preference, rows.column_names, texts, where)
        if (labels := self.label_column(rows)) is not None:
            return labelled_reader(format, rows.column_names, labels, where)
        return row_reader(format, rows.column_names, field)


def _labels(sets: Iterable[_DataSet]) -> tuple[str, ...]:
    """The labels of all data sets together, by their numbers; none of formats without labels."""
    columns, found = [], set[str]()
    for part in sets:
        if (column := part.label_column(part.rows)) is not None:
            columns.append(column)
            found |= occurring(column, part.rows, part.origin.field)
    return ordered(columns, found) if columns else ()


def write_data(
    run: Run,
    origins: list[Origin],
    tokenizer: PreTrainedTokenizerBase,
    vocabulary: int,
    directory: Path,
    scratch: Path,
) -> Written:
    """Tokenize both splits into the existing `directory`.

    Args:
        vocabulary: how many tokens the model knows.
        scratch: a directory on the workspace volume for downloads and caches.

    Raises:
        UserError: data and spec do not fit together, or nothing is left to train on.
        RetryableError: the Hub failed.
    """
    sets = []
    for origin in origins:
        loader = RowSource(origin.spec, origin.source, origin.commit, scratch)
        sets.append(_DataSet(origin, loader, run.training.seed))
    labels = _labels(sets)
    encoders = _Encoders(run, tokenizer, labels)
    pipelines = [part.pipeline(part.rows, encoders, vocabulary) for part in sets]
    wanted = _share_out(sets, run.training.seed)

    tallies, validation_tallies = [[Tally() for _ in sets] for _ in range(2)]

    def training() -> Iterator[Block]:
        for part, pipeline, tally in zip(sets, pipelines, tallies, strict=True):
            blocks = pipeline.blocks(part.rows, part.training, tally)
            yield from _some(blocks, tally, "training", part, run)

    def validation() -> Iterator[Block]:
        for part, tally in zip(sets, validation_tallies, strict=True):
            if part.held_out is not None:
                rows, chosen = part.held_out
                blocks = part.pipeline(rows, encoders, vocabulary).blocks(rows, chosen, tally)
                yield from _some(blocks, tally, "validation", part, run)

    labelled = run.task is not Task.GENERATION
    if any(part.held_out is not None for part in sets):
        _write(directory / "validation", validation, labelled=labelled)
    _write(directory / "train", training, labelled=labelled)
    _require_supervised(directory / "train", origins)
    if labels:
        write_labels(directory, labels)
        require_trained(directory, labels)
    counts = {
        part.origin.field: Counts(
            train=tallies[index],
            validation=validation_tallies[index] if part.held_out is not None else None,
            left_out=part.available - wanted[index],
        )
        for index, part in enumerate(sets)
    }
    return Written(counts, encoders.stops)


def _share_out(sets: list[_DataSet], seed: int) -> list[int]:
    """Leave of each set the rows that are its share; how many these are."""
    weights = [part.origin.spec.weight for part in sets]
    available = [part.available for part in sets]
    given = [weight for weight in weights if weight is not None]
    if len(given) < len(sets):
        return available
    wanted = shares(available, given)
    for index, (part, count) in enumerate(zip(sets, wanted, strict=True)):
        if count < part.available:
            part.training = draw(part.training, count, seed, index)
    return wanted


def _some(
    blocks: Iterator[Block], tally: Tally, use: str, part: _DataSet, run: Run
) -> Iterator[Block]:
    yield from blocks
    tally.require_some(use, part.origin.field, run.training.sequence_length)


def _write(directory: Path, blocks: Callable[[], Iterator[Block]], *, labelled: bool) -> None:
    directory.mkdir()
    write_examples(directory, blocks(), labelled=labelled)


def _require_supervised(directory: Path, origins: list[Origin]) -> None:
    if Examples(directory).supervised_tokens:
        return
    field = origins[0].field
    raise UserError(
        "No token of the training data is supervised, so nothing would be learned: check "
        f"spec.{field}.loss and spec.{field}.format."
    )

"""A data set, loaded by the `datasets` library from the Hub or from mounted files.

The library turns every format into Arrow files on the workspace volume, from which `rows.py` reads.
What it complains about is told here in words that help.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

import datasets
import huggingface_hub.constants
import pyarrow as pa
from datasets import (
    BuilderConfig,
    DatasetBuilder,
    DownloadConfig,
    ReadInstruction,
    load_dataset_builder,
)
from datasets.arrow_reader import make_file_instructions
from datasets.data_files import EmptyDatasetError
from datasets.exceptions import DataFilesNotFoundError, DatasetGenerationError
from datasets.utils.file_utils import cached_path

from finetune_trainer.hub import endpoint, hub_errors
from finetune_trainer.outcome import RetryableError, StageError, UserError, volume_is_full
from finetune_trainer.prepare.damage import GZIP, UNPACKING_ERRORS, ZSTD, damage, require_whole
from finetune_trainer.prepare.rows import Part, Rows
from finetune_trainer.prepare.source import Commit, HubSource, Source
from finetune_trainer.run import DatasetSource

FORMATS = (".parquet", ".jsonl", ".json", ".csv", ".tsv", ".txt", ".ndjson", ".arrow")
# Rows that the reader holds at once; else it is as many as the file's writer put into one group.
BATCH_ROWS = 1000
# pandas would read "007" as 7 and "None" as nothing: the cells of a table are text.
CELLS_AS_TEXT = dict.fromkeys(range(1000), str)


class RowSource:
    """A data set at one commit, from which splits are read.

    Args:
        scratch: a directory on the workspace volume for downloads and caches.

    Raises:
        UserError: the data set, its subset or its files cannot be used.
        RetryableError: the Hub failed.
    """

    def __init__(
        self,
        spec: DatasetSource,
        source: Source,
        commit: Commit | None,
        scratch: Path,
    ) -> None:
        self._source = source
        self._scratch = scratch
        self._data_files: list[str] = []
        with self._errors():
            self._builder = _builder(spec, source, commit, scratch)
        if not self.splits:
            raise UserError(f"{self._title} has no data files that can be read.")
        self._require_own_files()
        self._bound(self._builder.config)

    def _bound(self, config: BuilderConfig) -> None:
        if hasattr(config, "converters"):
            config.converters = CELLS_AS_TEXT
            config.na_filter = False
        if hasattr(config, "batch_size"):
            config.batch_size = BATCH_ROWS

    @property
    def splits(self) -> list[str]:
        """Names of the splits that the data set has."""
        files = self._builder.config.data_files
        return [str(name) for name in (files or self._builder.info.splits or {})]

    def read(self, field: str, split: str) -> Rows:
        """The rows of `split`, which may carry slices, as in `train[:4096]`.

        Raises:
            UserError: `split` is not one of the data set's, its slice is wrong, or it is empty.
        """
        for part in split.split("+"):
            name = part.strip().partition("[")[0]
            if name not in self.splits:
                raise UserError(
                    f'{field} names "{name}"; the data set has: {", ".join(self.splits)}.'
                )
        with self._errors():
            self._require_whole()
            try:
                self._builder.download_and_prepare(verification_mode="no_checks")
            except StopIteration as error:  # the JSON reader's answer to a file without a byte
                raise UserError(_no_rows(field, split)) from error
            # Arrow keeps what reading took, of Parquet a whole row group, and tokenizing is next.
            pa.default_memory_pool().release_unused()
            try:
                rows = self._rows(field, split)
            except (ValueError, AssertionError) as error:
                raise UserError(
                    f'{field} is "{split}", which is not a split with a slice such as '
                    f"train[:1000] or train[10%:20%]: {_words(error)}."
                ) from error
        return rows

    def _rows(self, field: str, split: str) -> Rows:
        info = self._builder.info
        instructions = make_file_instructions(
            self._builder.dataset_name,
            list(info.splits.values()),
            split,
            filetype_suffix="arrow",
            prefix_path=self._builder.cache_dir,
        )
        files = instructions.file_instructions
        # A slice that ends before it begins takes less than nothing.
        if instructions.num_examples <= 0 or any(part["take"] < 0 for part in files):
            raise UserError(_no_rows(field, split))
        return Rows(
            [Part(part["filename"], part["skip"], part["take"]) for part in files],
            instructions.num_examples,
            info.features,
            self._explained,
        )

    def shared_rows(self, one: str, other: str) -> int:
        """How many rows two splits that were read, slices and all, have in common."""
        lengths = {name: split.num_examples for name, split in self._builder.info.splits.items()}
        ranges = [
            [
                (part.splitname, range(part.from_, part.to))
                for part in ReadInstruction.from_spec(spec).to_absolute(lengths)
            ]
            for spec in (one, other)
        ]
        return sum(
            len(range(max(mine.start, theirs.start), min(mine.stop, theirs.stop)))
            for name, mine in ranges[0]
            for other_name, theirs in ranges[1]
            if name == other_name
        )

    def _require_own_files(self) -> None:
        """A card's data_files may name any file of this pod, the tokens too."""
        for files in (self._builder.config.data_files or {}).values():
            self._data_files += map(str, files)
        for file in self._data_files:
            if not self._source.holds(file):
                raise UserError(
                    f"{self._title} names {file!r} as one of its data files, which is not there "
                    "but in this container: correct data_files in its card, or put the file itself "
                    "beside it."
                )

    def _require_whole(self) -> None:
        """Of packed files, what the library does not see; the Hub's were verified on their way."""
        for name, path in self._files():
            if name.endswith(ZSTD) and not isinstance(self._source, HubSource):
                require_whole(path)

    def _files(self) -> Iterator[tuple[str, Path]]:
        """The data files by the names that people know; the Hub's are in the cache by now."""
        for file in self._data_files:
            if isinstance(self._source, HubSource):
                token = DownloadConfig(token=self._source.token or False)
                yield PurePath(file).name, Path(cached_path(file, download_config=token))
            else:
                yield str(Path(file).relative_to(self._source.root)), Path(file)

    @property
    def _field(self) -> str:
        return f"spec.{self._source.field}"

    @property
    def _title(self) -> str:
        if isinstance(self._source, HubSource):
            return self._source.subject.title
        return f"The data set on {self._source.holder}"

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            if isinstance(self._source, HubSource):
                with hub_errors(self._source.subject), _hub_cache(self._scratch):
                    yield
            else:
                yield
        except StageError:
            raise
        except (DataFilesNotFoundError, EmptyDatasetError) as error:
            raise UserError(
                f"{self._title} has no data files: put some there that end in one of "
                f"{', '.join(FORMATS[:4])}, packed as {GZIP} or {ZSTD} or not."
            ) from error
        except (DatasetGenerationError, ValueError, FileNotFoundError, *UNPACKING_ERRORS) as error:
            if volume_is_full(error):
                raise
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> StageError:
        words = _words(error)
        if match := re.search(r"(?:available configs|Available)\W+\[(.*?)\]", words):
            names = match.group(1).replace("'", "")
            return UserError(f"{self._field}.subset must be one of {self._title}'s: {names}.")
        for name, path in self._files():
            if found := damage(name, path):
                return UserError(f"{self._title} cannot be read: {found}.")
        cause = error.__cause__
        detail = _words(cause) if cause is not None else words
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
            return RetryableError(f"{self._title} could not be read: {detail}.")
        return UserError(f"{self._title} cannot be read as rows ({detail}): correct its files.")


def _builder(
    spec: DatasetSource, source: Source, commit: Commit | None, scratch: Path
) -> DatasetBuilder:
    datasets.disable_progress_bars()
    # It would ask a storage service beside the Hub to count the download.
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    common = {"name": spec.subset, "cache_dir": str(scratch / "arrow")}
    if isinstance(source, HubSource):
        assert commit is not None, "a Hub source is resolved before its rows are read"
        datasets.config.HF_ENDPOINT = endpoint()
        return load_dataset_builder(
            source.repository,
            revision=commit.sha,
            token=source.token or False,
            download_config=DownloadConfig(
                cache_dir=str(scratch / "downloads"), token=source.token or False
            ),
            **common,
        )
    if source.path.is_dir():
        return load_dataset_builder(str(source.path), **common)
    _require_format(source.field, source.path)
    return load_dataset_builder(
        str(source.path.parent), data_files={"train": source.path.name}, **common
    )


def _require_format(field: str, path: Path) -> None:
    name = path.name.lower().removesuffix(GZIP).removesuffix(ZSTD)
    if not name.endswith(FORMATS):
        raise UserError(
            f'spec.{field}.source names "{path.name}", whose ending tells no format that is known: '
            f"name a file that ends in one of {', '.join(FORMATS[:4])}, packed as {GZIP} or {ZSTD} "
            "or not."
        )


@contextmanager
def _hub_cache(directory: Path) -> Iterator[None]:
    """Let the Hub's client keep its files on the volume: `datasets` cannot be told a directory."""
    constants = huggingface_hub.constants
    before = constants.HF_HUB_CACHE
    constants.HF_HUB_CACHE = str(directory / "hub")
    try:
        yield
    finally:
        constants.HF_HUB_CACHE = before


def _no_rows(field: str, split: str) -> str:
    return f'{field} "{split}" has no rows: name a split or slice that has some.'


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__

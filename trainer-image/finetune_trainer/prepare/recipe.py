"""`prepare`, step by step: what is done in which order, and what is written where.

How each step works belongs to its own module.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from finetune_trainer.data.examples import Examples, write_examples
from finetune_trainer.layout import chat_template_files
from finetune_trainer.outcome import UserError
from finetune_trainer.prepare.encode import Encoder
from finetune_trainer.prepare.format import row_reader
from finetune_trainer.prepare.generation import stopping_at
from finetune_trainer.prepare.memory import count_parameters, estimate_memory
from finetune_trainer.prepare.model import (
    Delivery,
    choose_files,
    choose_weights,
    from_claim,
    from_hub,
    is_weights,
)
from finetune_trainer.prepare.pipeline import Pipeline
from finetune_trainer.prepare.preview import COLOURS, preview
from finetune_trainer.prepare.report import Prepared, message, page, report, result
from finetune_trainer.prepare.rows import Rows, RowSource
from finetune_trainer.prepare.source import Commit, HubSource, parse_source
from finetune_trainer.prepare.split import validation_rows
from finetune_trainer.prepare.suitability import check_sequence_length, read_config
from finetune_trainer.prepare.tally import Tally
from finetune_trainer.prepare.template import ChatTemplate
from finetune_trainer.prepare.wholeness import require_whole
from finetune_trainer.run import Run
from finetune_trainer.workspace import Workspace, atomic_directory, write_json, write_text

STAGE = "prepare"
# In place of a plan's hash: a run's workspace, whose former files are on their way out.
CLEARING = "clearing"


def prepare(run: Run, workspace: Workspace) -> tuple[str, dict[str, Any]]:
    """Everything that `train` needs, in `workspace`; the summary and the result."""
    if (done := _already_prepared(run, workspace)) is not None:
        return done
    _claim_workspace(run, workspace)
    model = _find_model(run, workspace)
    # The weights come last: whatever else is wrong is told before they are downloaded.
    model.delivery.bring(name for name in model.files if not is_weights(name))
    weights = choose_weights(workspace.model, model.files, model.title)
    config = read_config(workspace.model, model.title)
    check_sequence_length(config, run.training.sequence_length)
    sizes = count_parameters(config, run)
    if run.model.chat_template is not None:
        model.delivery.override(chat_template_files(workspace.model, run.model.chat_template))
    tokenizer = _load_tokenizer(workspace)
    with atomic_directory(workspace.data) as directory:
        dataset_commit, tally, validation_tally, stops = _write_data(
            run, tokenizer, config, directory, _scratch(workspace)
        )
        write_json(directory / "meta.json", {"planHash": run.plan_hash})
    model.delivery.override(stopping_at(workspace.model, config, stops))
    model.delivery.bring(weights)
    model.delivery.finish()
    require_whole(workspace.model, model.title)
    shutil.rmtree(_scratch(workspace))
    validation = workspace.data / "validation"
    prepared = Prepared(
        run=run,
        model=model.commit,
        dataset_commit=dataset_commit,
        tally=tally,
        validation_tally=validation_tally,
        train=Examples(workspace.data / "train"),
        validation=Examples(validation) if validation.exists() else None,
        sizes=sizes,
        memory=estimate_memory(config, sizes, run),
    )
    _publish(prepared, tokenizer, workspace)
    values = result(prepared)
    return message(values), values


def _already_prepared(run: Run, workspace: Workspace) -> tuple[str, dict[str, Any]] | None:
    """What an earlier pod of the same plan achieved, if it did and its files are there."""
    if not (_holds_plan(run, workspace) and workspace.data.exists()):
        return None
    values = workspace.read_result(STAGE)
    return None if values is None else (message(values), values)


def _holds_plan(run: Run, workspace: Workspace) -> bool:
    return workspace.plan_hash.exists() and workspace.plan_hash.read_text().strip() == run.plan_hash


def _claim_workspace(run: Run, workspace: Workspace) -> None:
    """Make the workspace this plan's: remove what another plan left, but keep its model."""
    if _holds_plan(run, workspace):
        return
    workspace.root.mkdir(parents=True, exist_ok=True)
    directories = (
        workspace.data,
        workspace.prepare,
        workspace.checkpoints,
        workspace.adapter,
        workspace.merged,
        workspace.logs,
        workspace.result(STAGE).parent,
        _scratch(workspace),
    )
    if not workspace.plan_hash.exists():
        _require_nobodys(workspace, workspace.model, workspace.history, *directories)
    # First, so that a kill half-way cannot leave another plan's files under this one's name, and
    # the next attempt still knows that a run has made them.
    write_text(workspace.plan_hash, CLEARING + "\n")
    for directory in directories:
        for path in (directory, directory.with_name(directory.name + ".tmp")):
            if path.exists():
                shutil.rmtree(path)
    workspace.history.unlink(missing_ok=True)
    write_text(workspace.plan_hash, run.plan_hash + "\n")


def _require_nobodys(workspace: Workspace, *paths: Path) -> None:
    """On a claim that no run has marked as its own, everything belongs to somebody."""
    # Except what an attempt leaves that ended here.
    own = workspace.result(STAGE)
    for path in paths:
        if path == own.parent and path.is_dir() and list(path.iterdir()) == [own]:
            continue
        if path.exists():
            name = f"{path.name}/" if path.is_dir() else path.name
            raise UserError(
                f"The claim in spec.storage.claimName holds {name} that no run made, and it would "
                f"be removed: use an empty claim, or move {name} elsewhere."
            )


@dataclass(frozen=True, slots=True)
class _Model:
    """The base model at its origin: what sentences call it, its commit, and its files."""

    title: str
    commit: Commit | None
    files: list[str]
    delivery: Delivery


def _find_model(run: Run, workspace: Workspace) -> _Model:
    source = parse_source("model", run.model.source, run.model.revision)
    if isinstance(source, HubSource):
        commit = source.resolve()
        title = source.subject.title
        _say(f"model         {run.model.source} at {commit.sha[:12]}")
        files = choose_files([sibling.rfilename for sibling in commit.files], title)
        return _Model(title, commit, files, from_hub(source, commit, files, workspace.model))
    title = f"The model in {run.model.source}"
    if not source.path.is_dir():
        raise UserError(f"{title} is a file: set spec.model.source to the model's directory.")
    files = choose_files([path.name for path in source.path.iterdir() if path.is_file()], title)
    return _Model(title, None, files, from_claim(source, files, workspace.model))


def _load_tokenizer(workspace: Workspace) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            workspace.model, local_files_only=True
        )
    except (OSError, ValueError, ImportError) as error:
        words = " ".join(str(error).split())[:200]
        raise UserError(
            "The model has no tokenizer that can be loaded; set spec.model.source to a model that "
            f"has one ({words})"
        ) from error
    return tokenizer


def _write_data(
    run: Run,
    tokenizer: PreTrainedTokenizerBase,
    config: PretrainedConfig,
    directory: Path,
    scratch: Path,
) -> tuple[str | None, Tally, Tally | None, frozenset[int]]:
    """Tokenize both splits into `directory`; the data's commit, the counts and the stop tokens."""
    spec = run.dataset
    source = parse_source("dataset", spec.source, spec.revision)
    commit = source.resolve() if isinstance(source, HubSource) else None
    _say(f"data          {spec.source}{f' at {commit.sha[:12]}' if commit else ''}")
    loader = RowSource(spec, source, commit, scratch)
    rows = loader.read("spec.dataset.split", spec.split)
    reader = row_reader(spec.format, rows.column_names)
    template = ChatTemplate(tokenizer) if reader.is_chat else None
    encoder = Encoder(tokenizer, template, loss=spec.loss, capacity=run.training.sequence_length)
    vocabulary = int(config.get_text_config().vocab_size)
    pipeline = Pipeline(reader, encoder, vocabulary)

    validation_tally: Tally | None = None
    train_rows = np.ones(len(rows), dtype=np.bool_)
    if spec.validation is not None and spec.validation.split is not None:
        other = loader.read("spec.dataset.validation.split", spec.validation.split)
        if shared := loader.shared_rows(spec.split, spec.validation.split):
            raise UserError(
                f'spec.dataset.validation.split "{spec.validation.split}" has {shared:,} rows of '
                f'spec.dataset.split "{spec.split}", and a row that is trained on proves nothing: '
                "set slices that share no row, or spec.dataset.validation.fraction."
            )
        other_reader = row_reader(spec.format, other.column_names)
        validation_tally = _write_split(
            directory / "validation",
            Pipeline(other_reader, encoder, vocabulary),
            other,
            np.ones(len(other), dtype=np.bool_),
        )
    elif spec.validation is not None and spec.validation.fraction is not None:
        held_out = validation_rows(len(rows), spec.validation.fraction, run.training.seed)
        train_rows = ~held_out
        validation_tally = _write_split(directory / "validation", pipeline, rows, held_out)
    if validation_tally is not None:
        validation_tally.require_some("validation", run.training.sequence_length)
    tally = _write_split(directory / "train", pipeline, rows, train_rows)
    tally.require_some("training", run.training.sequence_length)
    if not Examples(directory / "train").supervised_tokens:
        raise UserError(
            "No token of the training data is supervised, so nothing would be learned: check "
            "spec.dataset.loss and spec.dataset.format."
        )
    stops = template.stops if template is not None else frozenset({tokenizer.eos_token_id})
    return commit.sha if commit else None, tally, validation_tally, stops


def _write_split(
    directory: Path, pipeline: Pipeline, rows: Rows, chosen: NDArray[np.bool_]
) -> Tally:
    """Write the examples of the `chosen` rows into the new `directory`; the counts."""
    directory.mkdir()
    tally = Tally()
    write_examples(directory, pipeline.blocks(rows, chosen, tally))
    return tally


def _publish(prepared: Prepared, tokenizer: PreTrainedTokenizerBase, workspace: Workspace) -> None:
    values = report(prepared)
    write_json(workspace.prepare / "report.json", values)
    write_text(workspace.prepare / "preview.txt", preview(prepared.train, tokenizer))
    _say(page(values))
    _say("\nWhat is trained is green:\n\n" + preview(prepared.train, tokenizer, COLOURS))


def _scratch(workspace: Workspace) -> Path:
    """Downloads and caches, on the volume: a data set may be larger than /tmp; a retry resumes."""
    return workspace.data.with_name("download.tmp")


def _say(text: str) -> None:
    print(text, file=sys.stdout, flush=True)

"""`prepare`, step by step: what is done in which order, and what is written where.

How each step works belongs to its own module.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from typing import Any

from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from finetune_trainer.data.examples import Examples
from finetune_trainer.layout import chat_template_files
from finetune_trainer.outcome import UserError
from finetune_trainer.prepare import loss
from finetune_trainer.prepare.apart import measure, require_loss, require_whole
from finetune_trainer.prepare.data import Origin, Written, find_data, write_data
from finetune_trainer.prepare.generation import stopping_at
from finetune_trainer.prepare.labels import configured, read_labels
from finetune_trainer.prepare.model import (
    Delivery,
    choose_files,
    choose_weights,
    from_claim,
    from_hub,
    is_weights,
)
from finetune_trainer.prepare.preference import require_both, require_pairs
from finetune_trainer.prepare.preview import COLOURS, as_json, choose, preview
from finetune_trainer.prepare.report import Prepared, message, page, report, result
from finetune_trainer.prepare.reuse import META, data_key, describe, kept_data
from finetune_trainer.prepare.source import Commit, HubSource, parse_source
from finetune_trainer.prepare.suitability import check_sequence_length, read_config
from finetune_trainer.prepare.workers import granted_cpus
from finetune_trainer.prepare.workplace import claim_workspace, finished, scratch
from finetune_trainer.run import Run
from finetune_trainer.workspace import Workspace, atomic_directory, write_json, write_text


def prepare(run: Run, workspace: Workspace) -> tuple[str, dict[str, Any]]:
    """Everything that `train` needs, in `workspace`; the summary and the result."""
    if (done := finished(run, workspace)) is not None:
        return message(done), done
    claim_workspace(run, workspace)
    if run.training.loss is not None:
        loss.keep(workspace)
        require_loss(run.training.loss, loss.directory(workspace))
    model = _find_model(run, workspace)
    # The weights come last: whatever else is wrong is told before they are downloaded.
    model.delivery.bring(name for name in model.files if not is_weights(name))
    weights = choose_weights(workspace.model, model.files, model.title)
    config = read_config(workspace.model, model.title, run.task)
    check_sequence_length(config, run.training.sequence_length, run.method.virtual_tokens)
    sizes, memory, rate = measure(workspace.model, run)
    if run.model.chat_template is not None:
        model.delivery.override(chat_template_files(workspace.model, run.model.chat_template))
    tokenizer = _load_tokenizer(workspace)
    require_pairs(run)
    origins = find_data(run)
    written = _tokenized(run, origins, tokenizer, config, workspace)
    model.delivery.override(stopping_at(workspace.model, config, written.stops))
    train = Examples(workspace.data / "train")
    require_both(run, train)
    names = read_labels(workspace.data)
    model.delivery.override(configured(workspace.model, names, config, tokenizer, run.task))
    model.delivery.bring(weights)
    model.delivery.finish()
    require_whole(workspace.model, model.title, run.task)
    shutil.rmtree(scratch(workspace), ignore_errors=True)
    validation = workspace.data / "validation"
    prepared = Prepared(
        run=run,
        model=model.commit,
        commits={part.field: part.commit.sha for part in origins if part.commit is not None},
        counts=written.counts,
        train=train,
        validation=Examples(validation) if validation.exists() else None,
        sizes=sizes,
        memory=memory,
        core_rate=rate,
        cores=granted_cpus(),
        labels=names,
    )
    values = result(prepared)
    _publish(prepared, values, tokenizer, workspace)
    return message(values), values


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


def _tokenized(
    run: Run,
    origins: list[Origin],
    tokenizer: PreTrainedTokenizerBase,
    config: PretrainedConfig,
    workspace: Workspace,
) -> Written:
    """The data in the workspace: those that an earlier plan left, if they are the same, or new."""
    vocabulary = int(config.get_text_config().vocab_size)
    key = data_key(run, origins, workspace.model, vocabulary)
    kept = kept_data(run, key, workspace)
    for origin in origins:
        _say(f"data          {origin}{', tokenized before' if kept else ''}")
    if kept is not None:
        return kept
    # Before, not when the new ones are there: both may not fit on the volume.
    if workspace.data.exists():
        shutil.rmtree(workspace.data)
    with atomic_directory(workspace.data) as directory:
        written = write_data(run, origins, tokenizer, vocabulary, directory, scratch(workspace))
        write_json(directory / META, describe(run, key, written))
    return written


def _publish(
    prepared: Prepared,
    values: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    workspace: Workspace,
) -> None:
    known = report(prepared, values)
    write_json(workspace.prepare / "report.json", known)
    examples, task, names = prepared.train, prepared.run.task, prepared.labels
    write_text(
        workspace.prepare / "preview.txt", preview(examples, tokenizer, task=task, labels=names)
    )
    chosen = as_json(choose(examples, tokenizer, task, names))
    write_json(workspace.prepare / "preview.json", {"examples": chosen})
    _say(page(known))
    _say("\nWhat is trained is green:\n\n" + preview(examples, tokenizer, COLOURS, task, names))


def _say(text: str) -> None:
    print(text, file=sys.stdout, flush=True)

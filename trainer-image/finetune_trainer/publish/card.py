"""The model card: a pure function from the plan and the stages' results to README.md.

Its header is huggingface_hub's (`ModelCardData`), so the Hub shows base model, data and results.
Whatever comes from the plan passes through `markdown` first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id

from finetune_trainer.publish.markdown import code, code_block, plain, table
from finetune_trainer.publish.method import (
    method_rows,
    method_tag,
    method_title,
    own_code,
    rate_remark,
)
from finetune_trainer.publish.task import (
    WORDS,
    class_name,
    labelled_use,
    measured,
    results_table,
    targets,
    task_tag,
)
from finetune_trainer.run import DatasetSource, LossOn, Run, Scheduler, Task

_HUB = "hf://"
_LOSS_ON = {
    LossOn.COMPLETIONS: "the answers",
    LossOn.ALL_TOKENS: "all tokens",
    LossOn.LAST_TURN: "the last answer of each conversation",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a card is written from.

    `report` is prepare's report, `train` and `merge` are those stages' results; each may lack any
    key. `versions` are the packages' that made the model. `adapter_folder` is where in the
    repository the adapter lies: "" for its root, None for nowhere. `chats` says whether the
    tokenizer has a chat template.
    """

    run: Run
    repository: str
    revision: str
    report: Mapping[str, Any]
    train: Mapping[str, Any]
    merge: Mapping[str, Any]
    versions: Mapping[str, str]
    has_model: bool
    adapter_folder: str | None
    chats: bool


def model_card(facts: Facts) -> str:
    """README.md of the repository, with its YAML header."""
    parts = [
        f"# {plain(facts.repository.rpartition('/')[2])}",
        _summary(facts),
        "## Results",
        _results(facts),
        "## Use",
        _use(facts),
        "## Training",
        table(("Setting", "Value"), _settings(facts)),
        "## Data",
        _data(facts),
        "## Reproduce",
        _reproduce(facts),
    ]
    return f"---\n{header(facts).to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


def header(facts: Facts) -> ModelCardData:
    """The card's metadata; the Hub links the base model and the data when they are on it."""
    run = facts.run
    base = _hub_name(run.model.source)
    data = [name for part in run.data.values() if (name := _hub_name(part.source))]
    relation = "finetune" if facts.has_model else "adapter"
    words = WORDS[run.task]
    results = [
        EvalResult(
            task_type=words.pipeline,
            task_name=words.title,
            dataset_type=data[0] if len(run.data) == 1 and data else "custom",
            dataset_name=", ".join(data) or "validation data",
            dataset_split=_validation_split(run),
            metric_type=metric.kind,
            metric_name=metric.heading,
            metric_value=value,
        )
        for metric, value in measured(run.task, facts.train)
    ]
    stated = facts.report.get("modelLicense") or {}
    return ModelCardData(
        library_name="transformers" if facts.has_model else "peft",
        pipeline_tag=words.pipeline,
        tags=["finetune-operator", method_tag(run.method), task_tag(run)],
        model_name=facts.repository.rpartition("/")[2],
        eval_results=results or None,
        license=stated.get("license"),
        license_name=stated.get("license_name"),
        license_link=stated.get("license_link"),
        base_model=base,
        base_model_relation=relation if base else None,
        datasets=data or None,
    )


def _summary(facts: Facts) -> str:
    run, report = facts.run, facts.report
    kind = "A fine-tuned model" if facts.has_model else "An adapter"
    method = method_title(run.method)
    base = _linked(run.model.source, "", report.get("modelCommit"))
    data = " and ".join(
        _linked(part.source, "datasets/", counts.get("commit"))
        for part, counts in _data_sets(facts)
    )
    return f"{kind}: {base}, trained with {method} on {data}."


def _results(facts: Facts) -> str:
    task, train = facts.run.task, facts.train
    if not measured(task, train):
        loss = _number(train, "loss")
        said = f" The last training loss was {loss:.4f}." if loss is not None else ""
        return f"No data was held out, so there is no validation loss.{said}"
    split = code(_validation_split(facts.run))
    return (
        results_table(task, train)
        + f"\n\nMean over {targets(facts.run)} of {split}, none of which was trained on; "
        "a lower loss is better."
    )


def _use(facts: Facts) -> str:
    parts = []
    task = facts.run.task
    whole, with_adapter = class_name(task, adapter=False), class_name(task, adapter=True)
    name, revision = json.dumps(facts.repository), json.dumps(facts.revision)
    at = "" if facts.revision == "main" else f", revision={revision}"
    if facts.has_model:
        loading = (
            f"from transformers import {whole}, AutoTokenizer\n\n"
            f"tokenizer = AutoTokenizer.from_pretrained({name}{at})\n"
            f'model = {whole}.from_pretrained({name}{at}, dtype="auto")\n\n'
        )
        parts.append(code_block("python", loading + _generation(facts)))
        if facts.adapter_folder is not None:
            folder = code(f"{facts.adapter_folder}/")
            parts.append(f"The adapter alone is in {folder}, for use on top of the base model:")
    if facts.adapter_folder is not None:
        folder = facts.adapter_folder
        own = own_code(facts.run.method, f"{name}{at}")
        inside = f", subfolder={json.dumps(folder)}" if folder else ""
        loading = (
            f"from peft import {with_adapter}\n"
            + ("" if facts.has_model else "from transformers import AutoTokenizer\n")
            + own.imported
            + "\n"
            + (
                ""
                if facts.has_model
                else f"tokenizer = AutoTokenizer.from_pretrained({name}{at})\n"
            )
            + own.loaded
            + f"model = {with_adapter}.from_pretrained({name}{at}{inside}{_labels(facts)})\n"
        )
        tail = "" if facts.has_model else "\n" + _generation(facts)
        parts.append(code_block("python", loading + tail))
    return "\n\n".join(parts)


def _labels(facts: Facts) -> str:
    """What a base model has to be told of the labels before an adapter is put on it."""
    names = facts.report.get("labels") or []
    return f", id2label={dict(enumerate(map(str, names)))!r}" if names else ""


def _generation(facts: Facts) -> str:
    if facts.run.task.has_labels:
        return labelled_use(facts.run.task)
    if not facts.chats:
        return (
            'inputs = tokenizer("Once upon a time", return_tensors="pt")\n'
            "output = model.generate(**inputs, max_new_tokens=128)\n"
            "print(tokenizer.decode(output[0], skip_special_tokens=True))"
        )
    return (
        'messages = [{"role": "user", "content": "Your question"}]\n'
        "inputs = tokenizer.apply_chat_template(\n"
        '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"\n'
        ")\n"
        "output = model.generate(**inputs, max_new_tokens=256)\n"
        'answer = output[0, inputs["input_ids"].shape[1] :]\n'
        "print(tokenizer.decode(answer, skip_special_tokens=True))"
    )


def _settings(facts: Facts) -> list[tuple[str, str]]:
    run, training, train = facts.run, facts.run.training, facts.train
    rows = method_rows(run.method)
    scheduler = training.scheduler
    epochs = f"{training.epochs or 1} epochs" if training.max_steps is None else None
    steps = _number(train, "steps")
    rows += [
        ("Trained parameters", _share(facts.report, "trainableParameters", "parameters")),
        ("Length", ", ".join(filter(None, (epochs, f"{steps:,.0f} steps" if steps else None)))),
        ("Weights", _chosen(train)),
        ("Sequences per step", f"{training.sequences_per_step}"),
        (
            "Sequence length",
            f"{training.sequence_length:,} tokens{', packed' if training.packing else ''}",
        ),
        (
            "Learning rate",
            f"{training.learning_rate:g}, {scheduler.type.lower()}, "
            f"{_warmup(scheduler)} warm-up{rate_remark(run.method)}",
        ),
        ("Optimizer", training.optimizer.type),
        (
            "Trained by",
            code(f"{training.loss.module}:{training.loss.function}") if training.loss else None,
        ),
        (
            "NEFTune noise alpha",
            f"{training.neftune_noise_alpha:g}" if training.neftune_noise_alpha else None,
        ),
        ("Weight decay", f"{training.weight_decay:g}"),
        ("Gradient norm at most", f"{training.max_grad_norm:g}"),
        ("Precision", _text(train, "precision")),
        ("Loss on", _loss_on(run)),
        ("Seed", f"{training.seed}"),
        ("Throughput", _with_unit(train, "tokensPerSecond", "tokens/s")),
    ]
    return [(name, value) for name, value in rows if value]


def _chosen(train: Mapping[str, Any]) -> str | None:
    best, steps, total = (_number(train, name) for name in ("bestStep", "steps", "totalSteps"))
    early = steps is not None and total is not None and steps < total
    parts = [
        f"of step {best:,.0f}, which had the lowest validation loss" if best else None,
        f"stopped early, {total:,.0f} steps were planned" if early else None,
    ]
    return "; ".join(filter(None, parts)) or None


def _warmup(scheduler: Scheduler) -> str:
    steps = scheduler.warmup_steps
    return f"{scheduler.warmup_ratio:.0%}" if steps is None else f"{steps:,} steps of"


def _loss_on(run: Run) -> str:
    if run.task.has_labels:
        return "labels"
    tokens = "; ".join(dict.fromkeys(_LOSS_ON[data.loss] for data in run.data.values()))
    if run.task is Task.PREFERENCE and (preference := run.training.preference):
        more = f", gamma {preference.gamma:g}" if preference.loss == "SimPO" else ""
        if preference.loss == "KTO":
            more = (
                f", desirable answers weighed {preference.desirable_weight:g}, "
                f"undesirable ones {preference.undesirable_weight:g}"
            )
        return f"{tokens}, {preference.loss} with beta {preference.beta:g}{more}"
    return tokens


def _data(facts: Facts) -> str:
    run, report = facts.run, facts.report
    rows: list[tuple[str, str | None]] = []
    for part, counts in _data_sets(facts):
        rows += [
            ("Source", code(part.source)),
            ("Subset", code(part.subset) if part.subset else None),
            ("Split", code(part.split)),
            ("Commit", code(counts["commit"]) if counts.get("commit") else None),
        ]
        if run.datasets:
            share = f", weight {part.weight:g}" if part.weight is not None else ""
            rows.append(("Training rows", f"{_with_unit(counts, 'rowsKept', '') or '?'}{share}"))
    rows += [
        ("Rows used", _share(report, "rowsKept", "rows")),
        ("Tokens", _with_unit(report, "tokens", "")),
        ("Supervised tokens", _share(report, "supervisedTokens", "tokens")),
        ("Training sequences", _with_unit(report, "trainSequences", "")),
        ("Validation sequences", _with_unit(report, "validationSequences", "")),
    ]
    lengths = report.get("tokenLengthPercentiles") or {}
    if {"50", "95", "100"} <= set(lengths):
        middle, most, longest = (lengths[rank] for rank in ("50", "95", "100"))
        rows.append(
            ("Tokens per example", f"median {middle:,}, 95 % ≤ {most:,}, longest {longest:,}")
        )
    text = table(("", ""), [(name, value) for name, value in rows if value])
    dropped: Mapping[str, int] = report.get("droppedByReason") or {}
    if dropped:
        reasons = "\n".join(f"* {count:,}: {plain(why)}" for why, count in dropped.items())
        text += f"\n\nRows left out:\n\n{reasons}"
    return text


def _data_sets(facts: Facts) -> list[tuple[DatasetSource, Mapping[str, Any]]]:
    """Every data set with what the report tells of it."""
    told = facts.report.get("dataSets") or [{"commit": facts.report.get("datasetCommit")}]
    return list(zip(facts.run.data.values(), chain(told, repeat({})), strict=False))


def _reproduce(facts: Facts) -> str:
    parts = [
        f"Plan {code(facts.run.plan_hash)}. The whole plan is in "
        "[`finetune/run.json`](finetune/run.json), the stages' reports in "
        "[`finetune/report.json`](finetune/report.json)."
    ]
    difference = _number(facts.merge, "relativeLogitDifference")
    if facts.has_model and difference is not None:
        merge = facts.run.merge
        into = " into the dequantized base" if merge and merge.base == "Dequantized" else ""
        parts.append(
            f"The adapter was merged{into} in float32 and rounded once; the merged model was then "
            f"loaded from disk and its logits differ by {100 * difference:.2g} % from those of "
            "base and adapter."
        )
    parts.append(
        table(
            ("Package", "Version"), [(plain(name), code(v)) for name, v in facts.versions.items()]
        )
    )
    return "\n\n".join(parts)


def _linked(source: str, prefix: str, commit: object) -> str:
    """The source's name, linked to the Hub at its commit where it is on one."""
    name = _hub_name(source)
    if name is None:
        return code(source)
    at = f" at {code(str(commit)[:12])}" if commit else ""
    return f"[{plain(name)}](/{prefix}{name}){at}"


def _hub_name(source: str) -> str | None:
    """OWNER/NAME if the source is a repository with a name that the Hub allows, else None."""
    if not source.startswith(_HUB):
        return None
    name = source.removeprefix(_HUB)
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name


def _validation_split(run: Run) -> str:
    """What was held out, of each data set that has such rows."""
    splits = []
    for part in run.data.values():
        validation = part.validation
        if validation is not None and validation.split is not None:
            splits.append(validation.split)
        elif validation is not None:
            splits.append(f"{validation.fraction:.3g} of {part.split}")
    return ", ".join(splits) or "validation"


def _number(values: Mapping[str, Any], key: str) -> float | None:
    """A finite number, which results hold as number or string."""
    try:
        number = float(values[key])
    except (KeyError, TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _text(values: Mapping[str, Any], key: str) -> str | None:
    text = values.get(key)
    return plain(text) if isinstance(text, str) else None


def _share(values: Mapping[str, Any], part: str, whole: str) -> str | None:
    some, every = _number(values, part), _number(values, whole)
    if some is None:
        return None
    return f"{some:,.0f}" + (f" of {every:,.0f} ({some / every:.2%})" if every else "")


def _with_unit(values: Mapping[str, Any], key: str, unit: str) -> str | None:
    number = _number(values, key)
    return f"{number:,.0f} {unit}".rstrip() if number is not None else None

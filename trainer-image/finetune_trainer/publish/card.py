"""The model card: a pure function from the plan and the stages' results to README.md.

Its header is huggingface_hub's (`ModelCardData`), so the Hub shows base model, data and results.
Whatever comes from the plan passes through `markdown` first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id

from finetune_trainer.publish.markdown import code, code_block, plain, table
from finetune_trainer.publish.method import method_tag, method_title
from finetune_trainer.publish.numbers import number, share, with_unit
from finetune_trainer.publish.settings import settings
from finetune_trainer.publish.task import WORDS, measured, results_table, targets, task_tag
from finetune_trainer.publish.use import Place, snippets
from finetune_trainer.publish.wording import MARKDOWN
from finetune_trainer.report import PICTURE, REPORT
from finetune_trainer.run import DatasetSource, Run

_HUB = "hf://"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a card is written from.

    `report` is prepare's report, `train` and `merge` are those stages' results; each may lack any
    key. `versions` are the packages' that made the model. `adapter_folder` is where in the
    repository the adapter lies: "" for its root, None for nowhere. `chats` says whether the
    tokenizer has a chat template, `told` which files of the report there are (`report`).
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
    told: frozenset[str] = frozenset()


def model_card(facts: Facts) -> str:
    """README.md of the repository, with its YAML header."""
    parts = [
        f"# {plain(facts.repository.rpartition('/')[2])}",
        _summary(facts),
        "## Results",
        _results(facts),
        *_picture(facts),
        "## Use",
        _use(facts),
        "## Training",
        table(("Setting", "Value"), settings(facts.run, facts.report, facts.train, MARKDOWN)),
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
        loss = number(train, "loss")
        said = f" The last training loss was {loss:.4f}." if loss is not None else ""
        return f"No data was held out, so there is no validation loss.{said}"
    split = code(_validation_split(facts.run))
    return (
        results_table(task, train)
        + f"\n\nMean over {targets(facts.run)} of {split}, none of which was trained on; "
        "a lower loss is better."
    )


def _picture(facts: Facts) -> list[str]:
    if PICTURE not in facts.told:
        return []
    alternative = "Training and validation loss over optimizer steps"
    return [f"![{alternative}](finetune/{PICTURE})", "Loss over optimizer steps."]


def _use(facts: Facts) -> str:
    place = Place(facts.repository, facts.revision, facts.has_model, facts.adapter_folder)
    parts = []
    labels = facts.report.get("labels") or []
    for snippet in snippets(place, facts.run, labels, chats=facts.chats):
        if snippet.folder is not None:
            folder = code(f"{snippet.folder}/")
            parts.append(f"The adapter alone is in {folder}, for use on top of the base model:")
        parts.append(code_block("python", snippet.python))
    return "\n\n".join(parts)


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
            weight = f", weight {part.weight:g}" if part.weight is not None else ""
            rows.append(("Training rows", f"{with_unit(counts, 'rowsKept', '') or '?'}{weight}"))
    rows += [
        ("Rows used", share(report, "rowsKept", "rows")),
        ("Tokens", with_unit(report, "tokens", "")),
        ("Supervised tokens", share(report, "supervisedTokens", "tokens")),
        ("Training sequences", with_unit(report, "trainSequences", "")),
        ("Validation sequences", with_unit(report, "validationSequences", "")),
    ]
    lengths = report.get("tokenLengthPercentiles") or {}
    if {"50", "95", "100"} <= set(lengths):
        middle, most, longest = (lengths[rank] for rank in ("50", "95", "100"))
        rows.append(
            ("Tokens per example", f"median {middle:,}, 95 % ≤ {most:,}, longest {longest:,}")
        )
    text = table(("Property", "Value"), [(name, value) for name, value in rows if value])
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
    plan, trained = facts.run.plan_hash, facts.run.works_by("train")
    by = f", trained by plan {code(trained)}" if trained != plan else ""
    parts = [
        f"Plan {code(plan)}{by}. The whole plan is in "
        "[`finetune/run.json`](finetune/run.json), the stages' reports in "
        "[`finetune/report.json`](finetune/report.json)."
    ]
    if REPORT in facts.told:
        parts.append(
            f"[`finetune/{REPORT}`](finetune/{REPORT}) shows the run on one page: its curves over "
            "all attempts, time and memory, and the data in numbers. It asks for nothing from a "
            "network; download it and open it in a browser."
        )
    difference = number(facts.merge, "relativeLogitDifference")
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

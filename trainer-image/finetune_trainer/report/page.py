"""From facts to the page: a pure function. What is said is decided here, where it stands and how it
looks in `report.html.jinja` and `report.css`.

The page asks for nothing from a network, and a policy in its head forbids it to. All text passes
through the template's escaping, but for drawings, which escape theirs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from finetune_trainer.duration import duration
from finetune_trainer.publish.method import method_title
from finetune_trainer.publish.numbers import number
from finetune_trainer.publish.settings import settings
from finetune_trainer.publish.task import WORDS, targets
from finetune_trainer.publish.use import Place, snippets
from finetune_trainer.publish.wording import TEXT
from finetune_trainer.report.evaluation import Row, evaluation
from finetune_trainer.report.facts import Facts
from finetune_trainer.report.panels import Panel, data_panels, memory_rows, training_panels
from finetune_trainer.report.svg import svg
from finetune_trainer.report.timeline import timeline
from finetune_trainer.report.words import (
    bytes_of_memory,
    count,
    outcome_words,
    shown,
    significant,
)
from finetune_trainer.run import Run

_HERE = Path(__file__).parent
MOST_TEXT = 2000
WIDE, NARROW = 700.0, 350.0


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that a reader looks for first."""

    name: str
    value: str
    remark: str = ""


def report_page(facts: Facts) -> str:
    """The whole document, in characters that UTF-8 can write."""
    run = facts.run
    view = {
        "css": Markup((_HERE / "report.css").read_text(encoding="utf-8")),
        "title": run.name,
        "where": f"{run.namespace}/{run.name}",
        "lead": _lead(facts),
        "failure": facts.failure,
        "failed_how": outcome_words(facts.failure.outcome) if facts.failure else "",
        "figures": _figures(facts),
        "training": [_drawn(panel) for panel in training_panels(facts)],
        "evaluation": evaluation(run.task, facts.train),
        "mean_over": targets(run),
        "samples": facts.samples,
        "public": facts.public,
        "examples": facts.examples,
        "data": [_drawn(panel) for panel in data_panels(facts)],
        "data_rows": _data_rows(facts),
        "dropped": _dropped(facts),
        "timeline": _timeline(facts),
        "attempts": _attempt_rows(facts),
        "memory": memory_rows(facts),
        "settings": settings(run, facts.prepared, facts.train, TEXT),
        "sources": _sources(facts),
        "snippets": _snippets(facts),
        "versions": facts.versions,
        "plan_hash": run.plan_hash,
        "plan": _plan(run),
    }
    page = _template().render(view)
    return page.encode("utf-8", "replace").decode("utf-8")


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_fit,
    )
    environment.filters |= {"most": lambda text: shown(text, MOST_TEXT), "count": count}
    return environment.get_template("report.html.jinja")


def _fit(value: Any) -> Any:
    """Whatever the template writes, harmless; markup has passed through this itself."""
    return value if isinstance(value, Markup) else shown(value, 20_000)


def _lead(facts: Facts) -> str:
    run = facts.run
    data = " and ".join(part.source.removeprefix("hf://") for part in run.data.values())
    base = run.model.source.removeprefix("hf://")
    method = method_title(run.method)
    return (
        f"{method[0].upper()}{method[1:]} of {base} on {data}, for {WORDS[run.task].title.lower()}."
    )


def _figures(facts: Facts) -> list[Figure]:
    train = facts.train
    found: list[Figure | None] = []
    rows: Sequence[Row] = evaluation(facts.run.task, train)
    if rows:
        row = rows[0]
        from_base = f"base {row.base}" if row.base else ""
        found.append(Figure(row.name, row.tuned, from_base))
    elif (loss := number(train, "loss")) is not None:
        found.append(Figure("Training loss, last", significant(loss)))
    steps, total = number(train, "steps"), number(train, "totalSteps")
    if steps is not None:
        early = total is not None and steps < total
        found.append(Figure("Steps", count(steps), f"of {count(total or 0)}" if early else ""))
    took = sum(
        each.ended - each.began
        for each in facts.attempts
        if each.stage == "train" and each.ended is not None
    )
    if took:
        attempts = sum(each.stage == "train" for each in facts.attempts)
        found.append(
            Figure("Training time", duration(took), f"{attempts} attempts" if attempts > 1 else "")
        )
    found.append(_figure("Throughput", number(train, "tokensPerSecond"), count, "tokens/s"))
    found.append(_figure("Peak memory", number(train, "peakMemoryBytes"), bytes_of_memory, ""))
    if not train and not took:
        found += _expected(facts.prepared)
    return [each for each in found if each is not None]


def _expected(prepared: Mapping[str, Any]) -> Iterator[Figure | None]:
    """Before training: what prepare has found out that it will take."""
    yield _figure("Steps", number(prepared, "totalSteps"), count, "planned")
    time, _, device = str(prepared.get("timeEstimate") or "").partition(" on ")
    if time:
        yield Figure("Training time", time, f"estimated, on {device}" if device else "estimated")
    memory = number(prepared, "memoryEstimateBytes")
    yield _figure("Memory", memory, bytes_of_memory, "estimated, of a training process")


def _figure(
    name: str, value: float | None, words: Callable[[float], str], remark: str
) -> Figure | None:
    return Figure(name, words(value), remark) if value is not None else None


def _drawn(panel: Panel) -> dict[str, Any]:
    """Two drawings of the same: a screen shows the one that is legible on it."""
    if panel.half:
        pictures = svg(panel.draw(NARROW))
    else:
        pictures = svg(panel.draw(WIDE), "wide") + svg(panel.draw(NARROW), "narrow")
    return {
        "title": panel.title,
        "unit": panel.unit,
        "note": panel.note,
        "half": panel.half,
        "svg": pictures,
    }


def _timeline(facts: Facts) -> Markup | None:
    title = "The stages over time, from the first attempt on"
    wide = timeline(facts.attempts, width=WIDE, title=title)
    narrow = timeline(facts.attempts, width=NARROW, title=title)
    return svg(wide, "wide") + svg(narrow, "narrow") if wide and narrow else None


def _attempt_rows(facts: Facts) -> list[tuple[str, str, str]]:
    """Only those that did not simply succeed: the others are in the picture."""
    return [
        (
            f"{each.stage}, attempt {each.number}",
            outcome_words(each.outcome),
            duration(each.ended - each.began) if each.ended is not None else "",
        )
        for each in facts.attempts
        if each.outcome != "Succeeded"
    ]


def _sources(facts: Facts) -> list[tuple[str, str]]:
    run, prepared = facts.run, facts.prepared
    rows = [("Base model", run.model.source), ("Model commit", prepared.get("modelCommit"))]
    told = prepared.get("dataSets")
    told = told if isinstance(told, list) else []
    for index, part in enumerate(run.data.values()):
        known = told[index] if index < len(told) and isinstance(told[index], dict) else {}
        subset = f", {part.subset}" if part.subset else ""
        rows.append(("Data", f"{part.source}{subset}, {part.split}"))
        rows.append(("Data commit", known.get("commit")))
    return [(name, str(value)) for name, value in rows if value]


def _data_rows(facts: Facts) -> list[tuple[str, str]]:
    prepared = facts.prepared

    def part(some: str, every: str) -> str | None:
        few, all_of = number(prepared, some), number(prepared, every)
        if few is None:
            return None
        return f"{count(few)}" + (f" of {count(all_of)} ({few / all_of:.1%})" if all_of else "")

    def whole(name: str) -> str | None:
        found = number(prepared, name)
        return None if found is None else count(found)

    efficiency = number(prepared, "packingEfficiency")
    rows = [
        ("Rows used", part("rowsKept", "rows")),
        ("Training examples", whole("trainExamples")),
        ("Held-out examples", whole("validationExamples")),
        ("Tokens", whole("tokens")),
        ("Tokens trained on", part("supervisedTokens", "tokens")),
        ("Training sequences", whole("trainSequences")),
        ("Sequences filled", f"{efficiency:.1%}" if efficiency is not None else None),
    ]
    return [(name, value) for name, value in rows if value]


def _dropped(facts: Facts) -> list[tuple[str, str]]:
    found = facts.prepared.get("droppedByReason")
    if not isinstance(found, dict):
        return []
    return [(str(why), count(number(found, why) or 0)) for why in list(found)[:12]]


def _snippets(facts: Facts) -> list[dict[str, Any]]:
    run = facts.run
    labels = facts.prepared.get("labels")
    labels = labels[:200] if isinstance(labels, list) else []
    place = _place(facts)
    if place is None:
        return []
    found = snippets(place, run, labels, chats=facts.chats)
    return [{"python": each.python, "folder": each.folder} for each in found]


def _place(facts: Facts) -> Place | None:
    """The repository once the model is there; before that, the directories of the workspace."""
    upload = facts.run.upload
    if upload is not None and (facts.public or facts.upload.get("repository")):
        has_model, adapter = "Merged" in upload.artifacts, "Adapter" in upload.artifacts
        folder = ("adapter" if has_model else "") if adapter else None
        return Place(upload.repository, upload.branch, has_model, folder)
    if facts.merge.get("merged") or facts.train.get("merged"):
        return Place("merged", "main", has_model=True, adapter_folder=None)
    if facts.train.get("adapter"):
        return Place("adapter", "main", False, adapter_folder="", tokenizer="model")
    return None


def _plan(run: Run) -> str:
    plan = run.model_dump(mode="json", by_alias=True, exclude_none=True)
    return shown(json.dumps(plan, indent=2, ensure_ascii=False), 20_000)

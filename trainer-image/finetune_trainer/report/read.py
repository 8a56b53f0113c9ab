"""From a workspace to the facts of a report. Nothing is trusted: another image may have written any
of these files, or a kill have cut them off; what makes no sense counts as not there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune_trainer.layout import has_chat_template
from finetune_trainer.report.facts import (
    Curve,
    Facts,
    Failure,
    Histogram,
    Passage,
    Piece,
    Previewed,
    Resumption,
    Sample,
)
from finetune_trainer.run import Run
from finetune_trainer.stage_log import Attempt, read_attempts
from finetune_trainer.versions import versions
from finetune_trainer.workspace import Workspace

STAGES = ("prepare", "train", "merge", "upload")
CURVES = (
    "loss",
    "base_eval_loss",
    "eval_loss",
    "learning_rate",
    "grad_norm",
    "tokens_per_second",
    "peak_memory_bytes",
)
MOST_SAMPLES = 8
MOST_EXAMPLES = 6
MOST_BINS = 100


def read_facts(run: Run, workspace: Workspace, *, public: bool) -> Facts:
    """What the workspace knows of `run`; see `Facts` for `public`."""
    ended = {stage: document(workspace.result(stage)) for stage in STAGES}
    results = {
        stage: mapping(found.get("result")) if found.get("outcome") == "Succeeded" else {}
        for stage, found in ended.items()
    }
    prepared = document(workspace.prepare / "report.json") or results["prepare"]
    attempts = read_attempts(workspace)
    if public:
        attempts = [each for each in attempts if each.stage != "upload"]
    curves, times = read_history(workspace.history)
    attempts = _seen(attempts, times)
    return Facts(
        run=run,
        public=public,
        prepared=prepared,
        train=results["train"],
        merge=results["merge"],
        upload={} if public else results["upload"],
        failure=None if public else _failure(ended),
        attempts=attempts,
        curves=curves,
        resumptions=_resumptions(attempts, times),
        lengths=_histogram(prepared.get("tokenLengthHistogram")),
        fill=_histogram(prepared.get("sequenceFillHistogram")),
        examples=[] if public else _examples(document(workspace.prepare / "preview.json")),
        samples=[] if public else _samples(workspace.logs / "samples.jsonl"),
        versions=versions(),
        chats=has_chat_template(workspace.model),
    )


def document(path: Path) -> Mapping[str, Any]:
    """The JSON object in a file; empty if there is none."""
    try:
        return mapping(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return {}


def mapping(value: Any) -> Mapping[str, Any]:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def number(value: Any) -> float | None:
    """A finite number, which results hold as number or string."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def read_history(path: Path) -> tuple[dict[str, Curve], list[tuple[float, int]]]:
    """The curves by name, and time and step of every line."""
    curves: dict[str, Curve] = {}
    times: list[tuple[float, int]] = []
    for line in _lines(path):
        step, at = number(line.get("step")), number(line.get("time"))
        if step is None or step < 0:
            continue
        if at is not None:
            times.append((at, int(step)))
        for name in CURVES:
            value = number(line.get(name))
            if value is not None:
                curves.setdefault(name, Curve()).add(step, value)
    return curves, times


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for text in file:
                try:
                    yield mapping(json.loads(text))
                except (ValueError, RecursionError):
                    continue
    except OSError:
        return


def _seen(attempts: Sequence[Attempt], times: Sequence[tuple[float, int]]) -> list[Attempt]:
    """Attempts at train that ended without a word went on at least to their last kept step."""
    begins = [each.began for each in attempts]
    found = []
    for each in attempts:
        until = min((began for began in begins if began > each.began), default=math.inf)
        logged = [at for at, _ in times if each.began <= at < until]
        if each.stage == "train" and each.ended is None and logged:
            each = replace(each, ended=max(logged))
        found.append(each)
    return found


def _resumptions(
    attempts: Sequence[Attempt], times: Sequence[tuple[float, int]]
) -> list[Resumption]:
    """Where later attempts at train went on: after the last step that had been logged, and kept,
    before they began.
    """
    found: dict[int, Resumption] = {}
    for attempt in [each for each in attempts if each.stage == "train"][1:]:
        before = [step for at, step in times if at < attempt.began]
        after = [step for at, step in times if at >= attempt.began]
        if before and after:
            step = max(before)
            found[step] = Resumption(attempt.number, step)
    return list(found.values())


def _failure(ended: Mapping[str, Mapping[str, Any]]) -> Failure | None:
    for stage in reversed(STAGES):
        outcome = ended[stage].get("outcome")
        if outcome is not None:
            if outcome == "Succeeded":
                return None
            return Failure(stage, str(outcome), str(ended[stage].get("message", "")))
    return None


def _histogram(value: Any) -> Histogram | None:
    edges, counts = (mapping(value).get(name) for name in ("edges", "counts"))
    if not isinstance(edges, list) or not isinstance(counts, list):
        return None
    known_edges = [found for each in edges if (found := number(each)) is not None]
    known_counts = [found for each in counts if (found := number(each)) is not None]
    if not 0 < len(known_counts) <= MOST_BINS or len(known_edges) != len(known_counts) + 1:
        return None
    if sorted(set(known_edges)) != known_edges or min(known_counts) < 0 or not any(known_counts):
        return None
    return Histogram(known_edges, known_counts)


def _examples(preview: Mapping[str, Any]) -> list[Previewed]:
    return [
        Previewed(
            number=int(number(each.get("number")) or 0),
            tokens=int(number(each.get("tokens")) or 0),
            supervised=int(number(each.get("supervisedTokens")) or 0),
            passages=[
                Passage(
                    title=str(part.get("title", "")),
                    pieces=[
                        Piece(str(piece.get("text", "")), piece.get("supervised") is True)
                        for piece in _objects(part.get("pieces"))
                    ],
                    more=int(number(part.get("moreTokens")) or 0),
                )
                for part in _objects(each.get("passages"))
            ],
        )
        for each in _objects(preview.get("examples"))[:MOST_EXAMPLES]
    ]


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _samples(path: Path) -> list[Sample]:
    """Those of the last evaluation, beside the base's."""
    by_step: dict[int, list[Mapping[str, Any]]] = {}
    for line in _lines(path):
        step = number(line.get("step"))
        if step is not None:
            by_step.setdefault(int(step), []).append(line)
    last = max(by_step, default=0)
    if last == 0:
        return []
    base = {str(line.get("prompt")): line for line in by_step.get(0, [])}
    return [
        Sample(
            prompt=prompt,
            base=str(base[prompt].get("sample", "")) if prompt in base else None,
            tuned=str(line.get("sample", "")),
            reference=str(line.get("reference", "")),
            step=last,
        )
        for line in by_step[last][:MOST_SAMPLES]
        for prompt in [str(line.get("prompt"))]
    ]

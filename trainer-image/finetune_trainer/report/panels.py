"""Which charts a report has, of which curves, and what is said beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from finetune_trainer.publish.numbers import number
from finetune_trainer.publish.task import targets
from finetune_trainer.report.charts import MOST_POINTS, SMOOTH_FROM, Series, curves, histogram
from finetune_trainer.report.facts import Curve, Facts
from finetune_trainer.report.figure import Drawing
from finetune_trainer.report.words import bytes_of_memory, count, significant
from finetune_trainer.run import Task

_MEMORY = {
    "weightsBytes": "Weights",
    "gradientsBytes": "Gradients",
    "optimizerBytes": "Optimizer",
    "activationsBytes": "Activations",
    "logitsBytes": "Logits",
    "runtimeBytes": "Runtime",
}


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart under a title with its unit; two `half` ones stand side by side."""

    title: str
    unit: str
    note: str
    half: bool
    draw: Callable[[float], Drawing]


def loss_series(facts: Facts) -> list[Series]:
    """Training and validation loss; the base's is the validation's first point."""
    found = facts.curves
    validation = Curve()
    for name in ("base_eval_loss", "eval_loss"):
        if name in found:
            validation.steps.extend(found[name].steps)
            validation.values.extend(found[name].values)
    return [
        Series("train", "train", found.get("loss", Curve())),
        Series("validation", "valid", validation, dotted=True),
    ]


def loss_drawing(facts: Facts, width: float, height: float) -> Drawing | None:
    """The loss over steps."""
    best = number(facts.train, "bestStep")
    return curves(
        loss_series(facts),
        width=width,
        height=height,
        title="Training and validation loss over optimizer steps",
        resumptions=facts.resumptions,
        best_step=best,
    )


def training_panels(facts: Facts) -> list[Panel]:
    """Loss, learning rate, gradient norm, throughput and memory over steps, as far as logged."""
    panels = []
    if any(len(each.curve) for each in loss_series(facts)):
        unit = "mean cross-entropy" if facts.run.task is not Task.PREFERENCE else "mean"
        over = targets(facts.run).removeprefix("the ")
        panels.append(
            Panel(
                "Loss",
                f"{unit} over {over}" + (", nats" if facts.run.task is Task.GENERATION else ""),
                _loss_note(facts),
                False,
                lambda width: _known(loss_drawing(facts, width, 280 if width > 500 else 240)),
            )
        )
    for name, title, unit, zero in (
        ("learning_rate", "Learning rate", "", True),
        ("grad_norm", "Gradient norm", "before clipping", True),
        ("tokens_per_second", "Throughput", "tokens/s", True),
        ("peak_memory_bytes", "Peak memory", "GiB, rank 0", True),
    ):
        curve = facts.curves.get(name)
        if curve is None or (name == "peak_memory_bytes" and max(curve.values) <= 0):
            continue
        if name == "peak_memory_bytes":
            curve = _scaled(curve, 2**-30)
        steady = name in ("learning_rate", "peak_memory_bytes")
        series = [Series(title, "plain", curve, steady=steady)]
        worded = count if name == "tokens_per_second" else significant
        panels.append(
            Panel(
                title,
                unit,
                "",
                True,
                partial(_small, series, facts, f"{title} over optimizer steps", zero, worded),
            )
        )
    return panels


def _small(
    series: list[Series],
    facts: Facts,
    title: str,
    zero: bool,
    worded: Callable[[float], str],
    width: float,
) -> Drawing:
    return _known(
        curves(
            series,
            width=width,
            height=170,
            title=title,
            resumptions=facts.resumptions,
            from_zero=zero,
            named=False,
            value=worded,
        )
    )


def _known(drawing: Drawing | None) -> Drawing:
    assert drawing is not None, "a panel is made of curves that have points"
    return drawing


def _scaled(curve: Curve, factor: float) -> Curve:
    found = Curve()
    for step, value in zip(curve.steps, curve.values, strict=True):
        found.add(step, value * factor)
    return found


def _loss_note(facts: Facts) -> str:
    points = len(facts.curves.get("loss", Curve()))
    parts = []
    if points > MOST_POINTS:
        size = -(-points // MOST_POINTS)
        parts.append(
            f"{count(points)} logged steps, drawn in groups of {size}: the line is a moving mean, "
            "the band the range of each group."
        )
    elif points >= SMOOTH_FROM:
        parts.append("The strong line is a moving mean of the logged steps behind it.")
    if facts.resumptions:
        parts.append("A dashed line is where another attempt went on from a checkpoint.")
    best = number(facts.train, "bestStep")
    if best is not None:
        parts.append(f"The ring is step {count(best)}, whose weights were kept.")
    return " ".join(parts)


def data_panels(facts: Facts) -> list[Panel]:
    """How long examples are, and how full the packed sequences."""
    panels = []
    if lengths := facts.lengths:
        percentiles = facts.prepared.get("tokenLengthPercentiles")
        known = percentiles if isinstance(percentiles, dict) else {}
        panels.append(
            Panel(
                "Length of examples",
                "examples by tokens",
                "",
                True,
                lambda width: histogram(
                    lengths,
                    width=width,
                    height=180,
                    title="How many examples have how many tokens",
                    unit="tokens",
                    middle=number(known, "50"),
                ),
            )
        )
    if fill := facts.fill:
        panels.append(
            Panel(
                "Packing",
                f"sequences of {count(facts.run.training.sequence_length)} tokens by how full",
                "",
                True,
                lambda width: histogram(
                    fill,
                    width=width,
                    height=180,
                    title="How many packed sequences are how full",
                    unit="full",
                    share=True,
                ),
            )
        )
    return panels


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """`percent` is the length of the row's bar."""

    name: str
    value: str
    percent: float
    kind: str


def memory_rows(facts: Facts) -> list[MemoryRow]:
    """What prepare estimated for one process by kind, their sum, and what was measured."""
    estimate = facts.prepared.get("memoryEstimate")
    estimate = estimate if isinstance(estimate, dict) else {}
    parts = [
        (title, size, "part")
        for key, title in _MEMORY.items()
        if (size := number(estimate, key)) is not None and size > 0
    ]
    total, peak = (
        number(facts.prepared, "memoryEstimateBytes"),
        number(facts.train, "peakMemoryBytes"),
    )
    if total:
        parts.append(("Estimate", total, "sum"))
    if peak:
        parts.append(("Measured peak", peak, "measured"))
    longest = max((size for _, size, _ in parts), default=1.0)
    return [
        MemoryRow(title, bytes_of_memory(size), round(100 * size / longest, 1), kind)
        for title, size, kind in parts
    ]

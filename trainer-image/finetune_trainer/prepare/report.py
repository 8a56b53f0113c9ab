"""The numbers of a prepared run, put together at the end and shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune_trainer.data.answers import count_answers
from finetune_trainer.data.examples import Examples
from finetune_trainer.data.packing import Sequences, plan_epoch, steps_of
from finetune_trainer.prepare.data import Counts
from finetune_trainer.prepare.forecast import forecasts, operations, passes_of
from finetune_trainer.prepare.sizes import Memory, Sizes
from finetune_trainer.prepare.source import Commit
from finetune_trainer.prepare.tally import Tally
from finetune_trainer.run import Precision, Run, Task

# What KTO's authors advise (arXiv:2402.01306, section 4.2), and TRL.
BALANCED = (1.0, 4 / 3)
PERCENTILES = (5, 25, 50, 75, 95, 99, 100)
BINS, FILL_BINS = 32, 20


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is known at the end, all that the report and the result are made of.

    `commits` and `counts` are by the data set's field; only data sets of the Hub have a commit.
    Each of the `cores` here does `core_rate` operations a second; None where they do not train.
    """

    run: Run
    model: Commit | None
    commits: Mapping[str, str]
    counts: Mapping[str, Counts]
    train: Examples
    validation: Examples | None
    sizes: Sizes
    memory: Memory
    core_rate: float | None
    cores: int
    labels: Sequence[str] = ()

    @property
    def tallies(self) -> list[Tally]:
        """Of all splits of all data sets."""
        counts = self.counts.values()
        return [tally for part in counts for tally in (part.train, part.validation) if tally]

    @property
    def dropped(self) -> Counter[str]:
        """Rows left out of any split, by reason."""
        return sum((tally.dropped for tally in self.tallies), Counter[str]())


def result(prepared: Prepared) -> dict[str, Any]:
    """The stage's `result`, as the contract names its keys."""
    run = prepared.run
    lengths = prepared.train.lengths
    rows = sum(tally.rows for tally in prepared.tallies)
    kept = sum(tally.kept for tally in prepared.tallies)
    sequences = _sequences(run, prepared.train)
    values: dict[str, Any] = {
        "modelCommit": prepared.model.sha if prepared.model else None,
        "datasetCommit": _commit(prepared.commits),
        "rows": rows,
        "rowsKept": kept,
        "rowsDropped": rows - kept,
        "droppedMostly": next((reason for reason, _ in prepared.dropped.most_common(1)), None),
        "tokens": int(lengths.sum()),
        "supervisedTokens": prepared.train.supervised_tokens,
        "trainSequences": sequences,
        "validationSequences": _sequences(run, prepared.validation) if prepared.validation else 0,
        "totalSteps": run.training.max_steps
        or steps_of(
            sequences,
            sequences_per_step=run.training.sequences_per_step,
            epochs=run.training.epochs,
        ),
        "parameters": prepared.sizes.parameters,
        "trainableParameters": prepared.sizes.trainable,
        "memoryEstimateBytes": prepared.memory.total,
        "timeEstimate": next(iter(_forecasts(prepared, sequences)), None),
        "sequenceLength": run.training.sequence_length,
    }
    # What Auto becomes is decided where training runs, on its own hardware.
    if run.training.precision is not Precision.AUTO:
        values["precision"] = run.training.precision.value
    return {key: value for key, value in values.items() if value is not None}


def _forecasts(prepared: Prepared, sequences: int) -> list[str]:
    run, train = prepared.run, prepared.train
    passes = passes_of(run, sequences)
    needed = operations(prepared.sizes, train.lengths, train.supervised_tokens, passes)
    if needed is None:
        return []
    return list(forecasts(run, needed, prepared.core_rate, prepared.cores))


def report(prepared: Prepared, values: dict[str, Any]) -> dict[str, Any]:
    """`prepare/report.json`: `values`, the result, and what a person wants to know beyond it."""
    lengths = prepared.train.lengths
    memory = {f"{name}Bytes": size for name, size in asdict(prepared.memory).items()}
    return {
        **values,
        "modelLicense": dict(prepared.model.license) if prepared.model else {},
        **_judged(prepared),
        **({"labels": list(prepared.labels)} if prepared.labels else {}),
        "dataSets": [_data_set(prepared, field) for field in prepared.counts],
        "droppedByReason": dict(prepared.dropped.most_common()),
        "rowsSplit": sum(tally.split for tally in prepared.tallies),
        "trainExamples": len(prepared.train),
        "validationExamples": len(prepared.validation) if prepared.validation else 0,
        "tokenLengthPercentiles": {
            str(rank): int(length)
            for rank, length in zip(PERCENTILES, np.percentile(lengths, PERCENTILES), strict=True)
        },
        "supervisedShare": round(values["supervisedTokens"] / values["tokens"], 4),
        "packingEfficiency": round(
            values["tokens"] / (values["trainSequences"] * values["sequenceLength"]), 4
        ),
        "memoryEstimate": memory,
        "timeEstimates": _forecasts(prepared, values["trainSequences"]),
        **_histograms(prepared),
    }


def _judged(prepared: Prepared) -> dict[str, Any]:
    """How many answers of each kind KTO learns from, and how the kinds are to each other with their
    weights; nothing of other losses.
    """
    settings = prepared.run.training.preference
    if prepared.run.task is not Task.PREFERENCE or settings is None or settings.loss != "KTO":
        return {}
    desirable, undesirable = count_answers(prepared.train)
    weights = settings.desirable_weight / settings.undesirable_weight
    return {
        "desirableAnswers": desirable,
        "undesirableAnswers": undesirable,
        "answerBalance": round(weights * desirable / undesirable, 3),
    }


def _commit(commits: Mapping[str, str]) -> str | None:
    """The commit of the only data set; of several, the beginnings, as a status has little room."""
    if len(commits) < 2:
        return next(iter(commits.values()), None)
    return ",".join(commit[:12] for commit in commits.values())


def _data_set(prepared: Prepared, field: str) -> dict[str, Any]:
    counts, spec = prepared.counts[field], prepared.run.data[field]
    values = {
        "source": spec.source,
        "commit": prepared.commits.get(field),
        "split": spec.split,
        "weight": spec.weight,
        "rows": counts.train.rows,
        "rowsKept": counts.train.kept,
        "rowsBeyondShare": counts.left_out or None,
        "validationRows": counts.validation.rows if counts.validation else None,
    }
    return {key: value for key, value in values.items() if value is not None}


def message(values: dict[str, Any]) -> str:
    """One sentence for status."""
    mostly = f", mostly: {values['droppedMostly']}" if "droppedMostly" in values else ""
    dropped = f" ({values['rowsDropped']:,} dropped{mostly})" if values["rowsDropped"] else ""
    return (
        f"Prepared {values['rowsKept']:,} of {values['rows']:,} rows{dropped}: "
        f"{values['tokens']:,} tokens in {values['trainSequences']:,} sequences, "
        f"{values['totalSteps']:,} steps{_about(values)}."
    )


def _about(values: dict[str, Any]) -> str:
    return f", about {values['timeEstimate']}" if "timeEstimate" in values else ""


def page(values: dict[str, Any]) -> str:
    """The report as lines for a log."""
    lengths = values["tokenLengthPercentiles"]
    lines = [
        ("rows", f"{values['rows']:,}, of these {values['rowsKept']:,} kept"),
        *(("  dropped", f"{n:,}: {why}") for why, n in values["droppedByReason"].items()),
        *([("  split", f"{values['rowsSplit']:,} too long")] if values["rowsSplit"] else []),
        *_shares(values["dataSets"]),
        ("examples", f"{values['trainExamples']:,} train, {values['validationExamples']:,} valid."),
        *_answers(values),
        ("tokens", f"{values['tokens']:,}, {values['supervisedShare']:.1%} supervised"),
        (
            "  an example",
            f"5 % ≤ {lengths['5']}, median {lengths['50']}, 95 % ≤ {lengths['95']}, "
            f"max {lengths['100']}",
        ),
        (
            "sequences",
            f"{values['trainSequences']:,} of {values['sequenceLength']:,} tokens, "
            f"{values['packingEfficiency']:.1%} full",
        ),
        ("steps", f"{values['totalSteps']:,}"),
        (
            "parameters",
            f"{values['parameters']:,}, of these {values['trainableParameters']:,} trained",
        ),
        ("memory", f"about {values['memoryEstimateBytes'] / 2**30:.1f} GiB a process (estimate)"),
        ("time", _time(values["timeEstimates"])),
    ]
    return "\n".join(f"{name:<14}{text}" for name, text in lines)


def _time(estimates: list[str]) -> str:
    if not estimates:
        return "not known for this architecture; train's log and status tell it"
    return f"about {' or '.join(estimates)} (estimate)"


def _answers(values: dict[str, Any]) -> list[tuple[str, str]]:
    """The kinds of answers that KTO learns from, and what to do if one of them counts too much."""
    if "answerBalance" not in values:
        return []
    desirable, undesirable = values["desirableAnswers"], values["undesirableAnswers"]
    low, high = BALANCED
    text = f"{desirable:,} desirable, {undesirable:,} undesirable"
    if not low <= values["answerBalance"] <= high:
        text += (
            f"; with their weights {values['answerBalance']:.2f} to 1, where {low:g} to {high:.2f} "
            "is advised: see spec.training.preference.desirableWeight and undesirableWeight"
        )
    return [("answers", text)]


def _shares(parts: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What each of several data sets gives; nothing of a single one."""
    total = sum(part["rowsKept"] for part in parts)
    return [
        (
            "  from",
            f"{part['source']}: {part['rowsKept']:,} for training ({part['rowsKept'] / total:.1%})"
            + (f", {beyond:,} beyond its share" if (beyond := part.get("rowsBeyondShare")) else ""),
        )
        for part in parts
        if len(parts) > 1
    ]


def _sequences(run: Run, examples: Examples) -> int:
    return len(_planned(run, examples))


def _planned(run: Run, examples: Examples) -> Sequences:
    return plan_epoch(
        examples.lengths,
        capacity=run.training.sequence_length,
        packing=run.training.packing,
        seed=run.training.seed,
        epoch=0,
    )


def _histograms(prepared: Prepared) -> dict[str, Any]:
    """How long examples are in tokens, and, where they are packed, which share of each sequence of
    the first epoch is filled.
    """
    run, lengths = prepared.run, prepared.train.lengths
    width = max(1, -(-int(lengths.max()) // BINS))
    found = {"tokenLengthHistogram": _histogram(lengths, np.arange(0, BINS + 1) * width)}
    if run.training.packing:
        planned = _planned(run, prepared.train)
        filled = np.add.reduceat(lengths[planned.examples], planned.starts[:-1])
        edges = np.linspace(0, 1, FILL_BINS + 1).round(3)
        found["sequenceFillHistogram"] = _histogram(filled / run.training.sequence_length, edges)
    return found


def _histogram(values: NDArray[Any], edges: NDArray[Any]) -> dict[str, list[Any]]:
    counts, _ = np.histogram(values, edges)
    return {"edges": edges.tolist(), "counts": counts.tolist()}

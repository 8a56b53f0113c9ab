"""The numbers of a prepared run, put together at the end and shown."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from finetune_trainer.data.examples import Examples
from finetune_trainer.data.packing import plan_epoch, steps_of
from finetune_trainer.prepare.memory import Memory, Sizes
from finetune_trainer.prepare.source import Commit
from finetune_trainer.prepare.tally import Tally
from finetune_trainer.run import Precision, Run

PERCENTILES = (5, 25, 50, 75, 95, 99, 100)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is known at the end, all that the report and the result are made of."""

    run: Run
    model: Commit | None
    dataset_commit: str | None
    tally: Tally
    validation_tally: Tally | None
    train: Examples
    validation: Examples | None
    sizes: Sizes
    memory: Memory


def result(prepared: Prepared) -> dict[str, Any]:
    """The stage's `result`, as the contract names its keys."""
    run, tally = prepared.run, prepared.tally
    lengths = prepared.train.lengths
    rows = tally.rows + (prepared.validation_tally.rows if prepared.validation_tally else 0)
    kept = tally.kept + (prepared.validation_tally.kept if prepared.validation_tally else 0)
    sequences = _sequences(run, prepared.train)
    values: dict[str, Any] = {
        "modelCommit": prepared.model.sha if prepared.model else None,
        "datasetCommit": prepared.dataset_commit,
        "rows": rows,
        "rowsKept": kept,
        "rowsDropped": rows - kept,
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
        "sequenceLength": run.training.sequence_length,
    }
    # What Auto becomes is decided where training runs, on its own hardware.
    if run.training.precision is not Precision.AUTO:
        values["precision"] = run.training.precision.value
    return {key: value for key, value in values.items() if value is not None}


def report(prepared: Prepared) -> dict[str, Any]:
    """`prepare/report.json`: the result, and what a person wants to know beyond it."""
    values = result(prepared)
    lengths = prepared.train.lengths
    dropped = prepared.tally.dropped + (
        prepared.validation_tally.dropped if prepared.validation_tally else Counter()
    )
    memory = {f"{name}Bytes": size for name, size in asdict(prepared.memory).items()}
    return {
        **values,
        "modelLicense": dict(prepared.model.license) if prepared.model else {},
        "droppedByReason": dict(dropped.most_common()),
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
    }


def message(values: dict[str, Any]) -> str:
    """One sentence for status."""
    dropped = f" ({values['rowsDropped']:,} dropped)" if values["rowsDropped"] else ""
    return (
        f"Prepared {values['rowsKept']:,} of {values['rows']:,} rows{dropped}: "
        f"{values['tokens']:,} tokens in {values['trainSequences']:,} sequences, "
        f"{values['totalSteps']:,} steps."
    )


def page(values: dict[str, Any]) -> str:
    """The report as lines for a log."""
    lengths = values["tokenLengthPercentiles"]
    lines = [
        ("rows", f"{values['rows']:,}, of these {values['rowsKept']:,} kept"),
        *(("  dropped", f"{n:,}: {why}") for why, n in values["droppedByReason"].items()),
        ("examples", f"{values['trainExamples']:,} train, {values['validationExamples']:,} valid."),
        ("tokens", f"{values['tokens']:,}, {values['supervisedShare']:.1%} supervised"),
        ("  an example", f"median {lengths['50']}, 95 % ≤ {lengths['95']}, max {lengths['100']}"),
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
    ]
    return "\n".join(f"{name:<14}{text}" for name, text in lines)


def _sequences(run: Run, examples: Examples) -> int:
    return len(
        plan_epoch(
            examples.lengths,
            capacity=run.training.sequence_length,
            packing=run.training.packing,
            seed=run.training.seed,
            epoch=0,
        )
    )

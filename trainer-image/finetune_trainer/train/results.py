"""What a finished training tells: the stage's result and its summary."""

from __future__ import annotations

from typing import Any

from pydantic.alias_generators import to_camel

from finetune_trainer.train.checkpoint import Position
from finetune_trainer.train.engines.choice import Choice
from finetune_trainer.train.pace import Pace


def result(
    position: Position,
    pace: Pace,
    *,
    total_steps: int,
    trainable: int,
    precision: str,
    choice: Choice,
    peak_memory_bytes: int,
    resumed_from: int | None,
    best_step: int | None,
) -> dict[str, Any]:
    """The contract's `result` of train (docs/stage-contract.md); what is not known is left out."""
    metrics = position.metrics
    values: dict[str, Any] = {
        "steps": position.step,
        "totalSteps": total_steps,
        "epoch": round(position.epoch, 4),
        "loss": metrics.get("loss"),
        **{to_camel(name): value for name, value in metrics.items() if "validation_" in name},
        "tokensPerSecond": round(pace.tokens_per_second, 1) or None,
        "flopsUtilization": pace.flops_utilization,
        "trainableParameters": trainable,
        "precision": precision,
        "strategy": str(choice.strategy),
        "strategyReason": choice.why,
        "peakMemoryBytes": peak_memory_bytes,
        "resumedFromStep": resumed_from,
        "bestStep": best_step,
        "skippedSteps": position.skips.total or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def summary(position: Position, pace: Pace, *, total_steps: int, best_step: int | None) -> str:
    """One sentence: `120 steps, validation loss 2.91 → 2.13 (base → tuned), 2,310 tokens/s.`"""
    metrics = position.metrics
    early = f" of {total_steps}, stopped early" if position.step < total_steps else ""
    parts = [f"{position.step} steps{early}"]
    if best_step not in (None, position.step):
        parts.append(f"the best after step {best_step} is kept")
    if position.skips.total:
        parts.append(f"{position.skips.total} of them skipped because they were not finite")
    if "validation_loss" in metrics:
        before, after = metrics["base_validation_loss"], metrics["validation_loss"]
        parts.append(f"validation loss {before:.2f} → {after:.2f} (base → tuned)")
    elif "loss" in metrics:
        first, last = metrics["first_loss"], metrics["loss"]
        parts.append(f"loss {first:.2f} → {last:.2f} (first → last step)")
    if pace.tokens_per_second:
        parts.append(f"{pace.tokens_per_second:,.0f} tokens/s")
    return ", ".join(parts) + "."

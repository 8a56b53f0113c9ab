"""One run in one line of plain text: what `--watch` and `wait` print where there is no terminal."""

from __future__ import annotations

from finetune_cli.harmless import harmless
from finetune_cli.view import Run, dig
from finetune_cli.words import number, span
from finetune_operator.vocabulary import Stage


def line(run: Run) -> str:
    """Phase, and either progress or the message."""
    return harmless("  ".join(_parts(run))).rstrip()


def _parts(run: Run) -> list[str]:
    parts = [f"{run.name}: {run.phase}"]
    step = dig(run.status, "progress.display.step")
    if run.status.get("stage") != Stage.TRAIN or step is None or run.is_over or run.waits:
        return [*parts, run.message]
    parts.append(f"{dig(run.status, 'progress.display.percent', '-')}  step {step}")
    if "loss" in run.metrics:
        parts.append(f"loss {number(run.metrics['loss'])}")
    if (eta := dig(run.status, "progress.etaSeconds")) is not None:
        parts.append(f"{span(eta)} left")
    return parts

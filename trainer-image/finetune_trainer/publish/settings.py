"""The settings that matter to a reader of a card or a report, by their names for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_trainer.publish.method import method_rows, rate_remark
from finetune_trainer.publish.numbers import number, share, with_unit
from finetune_trainer.publish.wording import Wording
from finetune_trainer.run import LossOn, Run, Scheduler, Task

_LOSS_ON = {
    LossOn.COMPLETIONS: "the answers",
    LossOn.ALL_TOKENS: "all tokens",
    LossOn.LAST_TURN: "the last answer of each conversation",
}


def settings(
    run: Run, report: Mapping[str, Any], train: Mapping[str, Any], wording: Wording
) -> list[tuple[str, str]]:
    """Names and values, those of `report` (prepare's) and `train` where they are known."""
    training, custom = run.training, run.training.loss
    rows = method_rows(run.method, wording)
    scheduler = training.scheduler
    times = training.epochs or 1
    epochs = None if training.max_steps else f"{times} epoch{'s' if times > 1 else ''}"
    steps, precision = number(train, "steps"), train.get("precision")
    rows += [
        ("Trained parameters", share(report, "trainableParameters", "parameters")),
        (
            "Length",
            ", ".join(
                filter(
                    None,
                    (
                        None if training.max_steps else epochs,
                        f"{steps:,.0f} steps" if steps else None,
                    ),
                )
            ),
        ),
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
            wording.code(f"{custom.module}:{custom.function}") if custom else None,
        ),
        (
            "NEFTune noise alpha",
            f"{training.neftune_noise_alpha:g}" if training.neftune_noise_alpha else None,
        ),
        ("Weight decay", f"{training.weight_decay:g}"),
        ("Gradient norm at most", f"{training.max_grad_norm:g}"),
        ("Precision", wording.plain(precision) if isinstance(precision, str) else None),
        ("Loss on", _loss_on(run)),
        ("Seed", f"{training.seed}"),
        ("Throughput", with_unit(train, "tokensPerSecond", "tokens/s")),
    ]
    return [(name, value) for name, value in rows if value]


def _chosen(train: Mapping[str, Any]) -> str | None:
    best, steps, total = (number(train, name) for name in ("bestStep", "steps", "totalSteps"))
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

"""What a card tells of the task: its names on the Hub, what was measured, and how to use the model.

Numbers come from the results of train, in which any may be missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune_trainer.publish.markdown import table
from finetune_trainer.run import Run, Task


@dataclass(frozen=True, slots=True)
class Metric:
    """A number of train's result: the end of its key, its heading, and the Hub's name of it."""

    key: str
    heading: str
    kind: str


@dataclass(frozen=True, slots=True)
class TaskWords:
    """`auto` ends the names of the classes that load the model, `pipeline` is the Hub's name of the
    task, `targets` what a mean loss is a mean over.
    """

    auto: str
    pipeline: str
    title: str
    targets: str
    metrics: tuple[Metric, ...] = ()


LOSS = Metric("Loss", "Validation loss", "loss")
_ACCURACY = Metric("Accuracy", "Accuracy", "accuracy")
_TEXT = ("ForCausalLM", "text-generation", "Text Generation")
WORDS = {
    Task.GENERATION: TaskWords(*_TEXT, "the supervised tokens"),
    Task.PREFERENCE: TaskWords(
        *_TEXT,
        "the pairs",
        (
            Metric("RewardAccuracy", "Reward accuracy", "rewards/accuracies"),
            Metric("RewardChosen", "Reward of desirable answers", "rewards/chosen"),
            Metric("RewardRejected", "Reward of undesirable answers", "rewards/rejected"),
            Metric("RewardMargin", "Reward margin", "rewards/margins"),
            Metric("Kl", "KL from the base", "kl"),
        ),
    ),
    Task.CLASSIFICATION: TaskWords(
        "ForSequenceClassification",
        "text-classification",
        "Text Classification",
        "the texts",
        (_ACCURACY, Metric("MacroF1", "Macro F1", "f1")),
    ),
    Task.TOKEN_CLASSIFICATION: TaskWords(
        "ForTokenClassification",
        "token-classification",
        "Token Classification",
        "the words",
        (
            _ACCURACY,
            Metric("Precision", "Precision", "precision"),
            Metric("Recall", "Recall", "recall"),
            Metric("F1", "F1 of entities", "f1"),
        ),
    ),
}


def task_tag(run: Run) -> str:
    """The Hub's word for the way of training."""
    if run.task is Task.PREFERENCE:
        return run.training.preference.loss.lower() if run.training.preference else "dpo"
    return "sft" if run.task is Task.GENERATION else WORDS[run.task].pipeline


def targets(run: Run) -> str:
    """What a mean loss is a mean over."""
    preference = run.training.preference
    if run.task is Task.PREFERENCE and preference and preference.loss == "KTO":
        return "the answers"
    return WORDS[run.task].targets


def measured(task: Task, train: Mapping[str, Any]) -> list[tuple[Metric, float]]:
    """What is known of the finished model on held-out data, the loss first."""
    values = [
        (metric, _number(train, f"validation{metric.key}"))
        for metric in (LOSS, *WORDS[task].metrics)
    ]
    return [(metric, value) for metric, value in values if value is not None]


def results_table(task: Task, train: Mapping[str, Any]) -> str:
    """Base model and this one, side by side; there is a validation loss."""
    found = measured(task, train)
    ours = [f"**{value:.4f}**" for _, value in found]
    # Without its new head the base can tell nothing, and a reference is as good as itself.
    before = {
        metric: _number(train, f"baseValidation{metric.key}")
        for metric, _ in found
        if task is Task.GENERATION or metric is LOSS
    }
    base = [
        f"{value:.4f}" if (value := before.get(metric)) is not None else "" for metric, _ in found
    ]
    head = ["", *(metric.heading for metric, _ in found)]
    if task is Task.GENERATION:
        head.append("Perplexity")
        ours.append(f"**{_perplexity(found[0][1])}**")
        base.append(_perplexity(before[LOSS]) if before[LOSS] is not None else "")
    rows = [("This model", *ours)]
    if before[LOSS] is not None:
        rows.insert(0, ("Base model", *base))
    return table(head, rows)


def class_name(task: Task, *, adapter: bool) -> str:
    """The class that loads the model, or an adapter with its base."""
    return f"Auto{'Peft' if adapter else ''}Model{WORDS[task].auto}"


def labelled_use(task: Task) -> str:
    """Python that asks `model` for labels, of a task that has them."""
    lines = [
        'inputs = tokenizer("Your text", return_tensors="pt")',
        "labels = model(**inputs).logits.argmax(-1)[0]",
    ]
    if task is Task.CLASSIFICATION:
        lines.append("print(model.config.id2label[labels.item()])")
    else:
        lines.append("words = tokenizer.convert_ids_to_tokens(inputs.input_ids[0])")
        lines.append(
            "print([(word, model.config.id2label[label.item()]) "
            "for word, label in zip(words, labels)])"
        )
    return "\n".join(lines)


def _number(values: Mapping[str, Any], key: str) -> float | None:
    try:
        number = float(values[key])
    except (KeyError, TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _perplexity(loss: float | None) -> str:
    # Above it the number says nothing and may not fit a float.
    return f"{math.exp(loss):.2f}" if loss is not None and loss < 20 else "> 10⁸"

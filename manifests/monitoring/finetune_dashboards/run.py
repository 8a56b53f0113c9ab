"""FineTune / Run: for the owner of one run. Does it go on, does it learn, how fast, and on what?

What is above the first row is told by the operator and the trainer alone; rows below that need
something else in the cluster say so and are closed.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders import common, dashboard, statetimeline
from grafana_foundation_sdk.models import common as looks

from finetune_dashboards import around, parts
from finetune_dashboards.parts import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    color_of,
    curves,
    figure,
    queries,
    query,
    setting,
)

THIS = 'namespace="$namespace", finetunejob="$run"'
NOT_TRAINING = "Not training."


def board() -> dashboard.Dashboard:
    """The second of the three: one run, found by namespace and name."""
    made = parts.page(
        parts.RUN,
        "FineTune / Run",
        "One fine-tuning run: where it stands, its curves over all attempts, speed and memory, "
        "GPUs, workspace and logs.",
        since="now-3h",
        refresh="30s",
    )
    made.with_variable(
        parts.variable("namespace", "Namespace", "label_values(finetunejob_info, namespace)")
    )
    made.with_variable(
        parts.variable(
            "run", "Run", 'label_values(finetunejob_info{namespace="$namespace"}, finetunejob)'
        )
    )
    made.with_variable(
        dashboard.DatasourceVariable("loki")
        .label("Loki")
        .description("For the logs. Without a Loki nothing but the last row needs it.")
        .type("loki")
    )
    made.link(around.explore())
    for mark in _marks():
        made.annotation(mark)
    for panel in (*_now(), _stages(), *_learning()):
        made.with_panel(panel)
    made.with_row(dashboard.Row("Speed and memory"))
    for panel in _speed():
        made.with_panel(panel)
    made.with_row(_closed("GPUs: needs the DCGM exporter", around.gpus()))
    made.with_row(_closed("Pods and workspace: needs the kubelets' metrics", around.pods()))
    return made.with_row(dashboard.Row("Logs: needs Loki").with_panel(around.logs_of_run()))


def _closed(title: str, panels: list[parts.Panel]) -> dashboard.Row:
    row = dashboard.Row(title)
    for panel in panels:
        row.with_panel(panel)
    return row


def _marks() -> list[parts.Marks]:
    attempt = f"finetunejob_stage_attempt{{{THIS}}}"
    counted = 'count_values by (stage) ("attempt", {})'
    now, before = counted.format(attempt), counted.format(f"{attempt} offset $__interval")
    return [
        parts.marks(
            "Attempts",
            # Only where it was not yet a step before: a mark, and no stretch.
            f"{now} unless {before}",
            title="{{stage}}, attempt {{attempt}}",
            text="begins",
            color=BLUE,
        ),
        parts.marks(
            "Failures",
            f"finetunejob_last_failure_timestamp_seconds{{{THIS}}} * 1000",
            title="{{stage}} failed: {{reason}}",
            text="status.attempts and the log tell more",
            color=RED,
            at=True,
        ),
        parts.marks(
            "The run's end",
            f"finetunejob_failed_timestamp_seconds{{{THIS}}} * 1000",
            title="The run has failed: {{reason}}",
            text="in {{stage}}",
            color=RED,
            at=True,
        ),
        parts.marks(
            "Alerts",
            f'ALERTS{{alertname=~"FineTune.+", alertstate="firing", {THIS}}}',
            title="{{alertname}}",
            text="fires",
            color=ORANGE,
        ),
    ]


def _now() -> list[parts.Panel]:
    return [
        figure(
            "Phase",
            "What the run does. A run that has ended has no series any more: its curves stay, and "
            "`kubectl finetune status` tells how it ended.",
            f"max by (phase) (finetunejob_info{{{THIS}}})",
            legend="{{phase}}",
            named=True,
            nothing="Not under way",
        ),
        figure(
            "Attempt",
            "Number of the present stage's latest attempt. More than 1: it was suspended, "
            "disrupted, or has failed and is tried again.",
            f"max(finetunejob_stage_attempt{{{THIS}}})",
            steps=((None, GREEN), (2, ORANGE)),
            width=3,
        ),
        figure(
            "Progress",
            "Share of the optimizer steps of training that are done.",
            f"max(finetunejob_progress_ratio{{{THIS}}})",
            unit="percentunit",
            width=4,
            nothing=NOT_TRAINING,
        ),
        figure(
            "Time left",
            "Estimate of training's remaining time, from the pace so far. Merge and upload come "
            "on top.",
            f"max(finetunejob_remaining_seconds{{{THIS}}})",
            unit="s",
            decimals=0,
            nothing=NOT_TRAINING,
        ),
        figure(
            "Loss",
            "Mean training loss per target token since the last logged step.",
            f"max(finetune_train_loss{{{THIS}}})",
            width=3,
            decimals=3,
            nothing=NOT_TRAINING,
        ),
        figure(
            "Speed",
            "Tokens a second, all ranks, padding not counted.",
            f"max(finetune_train_tokens_per_second{{{THIS}}})",
            unit="suffix: tok/s",
            width=3,
            nothing=NOT_TRAINING,
        ),
        figure(
            "Last report",
            "Age of the last progress report that has reached the operator. Reports come every "
            "few seconds; an evaluation or the first compilation can take minutes.",
            f"time() - max(finetunejob_progress_timestamp_seconds{{{THIS}}})",
            unit="s",
            decimals=0,
            steps=((None, GREEN), (300, ORANGE), (900, RED)),
            width=3,
            nothing=NOT_TRAINING,
        ),
    ]


def _stages() -> statetimeline.Panel:
    """A bar a stage: when it ran, with the attempt's number on it."""
    waiting = f"max(finetunejob_waiting_gpus{{{THIS}}} > 0)"
    return (
        statetimeline.Panel()
        .title("Stages and attempts")
        .description(
            "When each stage ran. Green is a first attempt, orange a later one; its number stands "
            "on the bar. Blue marks on all curves are the moments when an attempt begins, red ones "
            "are failures. A gap: nothing was scraped."
        )
        .datasource(parts.PROMETHEUS)
        .targets(
            [
                *queries(
                    (f"max by (stage) (finetunejob_stage_attempt{{{THIS}}})", "{{stage}}"),
                    (waiting, "waits for GPUs"),
                )
            ]
        )
        .show_value(looks.VisibilityMode.AUTO)
        .merge_values(True)
        .row_height(0.8)
        .unit("prefix:attempt ")
        .no_value("Nothing in this time.")
        .thresholds(parts.thresholds(((None, GREEN), (2, ORANGE), (3, "dark-orange"))))
        .color_scheme(parts.by_threshold())
        .override_by_name("waits for GPUs", [setting("unit", "suffix: GPUs"), *color_of(GREY)])
        .legend(common.VizLegendOptions().show_legend(False))
        .height(6)
        .span(24)
    )


def _learning() -> list[parts.Panel]:
    base = f"max(max_over_time(finetune_train_base_validation_loss{{{THIS}}}[$__range]))"
    loss = curves(
        "Loss",
        "Training loss, the loss on held-out data, and that of the base model before the first "
        "step. It should fall, and the held-out one should not turn up again: that is overfitting. "
        "Held-out data is measured before the first step, every training.evaluateEverySteps and "
        "at the end.",
        queries(
            (f"max(finetune_train_loss{{{THIS}}})", "training"),
            (f"max(finetune_train_validation_loss{{{THIS}}})", "held-out"),
            (base, "held-out, base model"),
        ),
        unit="short",
        width=12,
        height=10,
        lowest=None,
        nothing=NOT_TRAINING,
    )
    dashed = setting("custom.lineStyle", {"fill": "dash", "dash": [8, 8]})
    loss.override_by_name("training", color_of(BLUE))
    loss.override_by_name("held-out", color_of(ORANGE))
    loss.override_by_name("held-out, base model", [*color_of(GREY), dashed])
    return [
        loss,
        curves(
            "Gradient norm",
            "L2 norm of the gradient before clipping, on a logarithmic axis. A jump that stays "
            "comes before a loss that is not finite: lower training.learningRate.",
            [query(f"max(finetune_train_gradient_norm{{{THIS}}})", "gradient norm")],
            unit="short",
            width=6,
            height=10,
            lowest=None,
            nothing=NOT_TRAINING,
        ).scale_distribution(
            common.ScaleDistributionConfig().type(looks.ScaleDistribution.LOG).log(10)
        ),
        curves(
            "Learning rate",
            "Of the last step: it warms up, then falls as training.scheduler says.",
            [query(f"max(finetune_train_learning_rate{{{THIS}}})", "learning rate")],
            unit="sci",
            width=6,
            height=10,
            nothing=NOT_TRAINING,
        ),
    ]


def _speed() -> list[parts.Panel]:
    step = f"1 / (sum(rate(finetune_train_steps_total{{{THIS}}}[$__rate_interval])) > 0)"
    return [
        curves(
            "Tokens per second",
            "All ranks. The second line counts only tokens that are trained on; the rest are "
            "prompts.",
            queries(
                (f"max(finetune_train_tokens_per_second{{{THIS}}})", "all"),
                (f"max(finetune_train_supervised_tokens_per_second{{{THIS}}})", "trained on"),
            ),
            unit="suffix: tok/s",
        ),
        curves(
            "Time of a step",
            "Evaluations and checkpoints included. Where the wait for data is a large part of it, "
            "the volume or the CPU is too slow for the GPUs.",
            queries(
                (step, "step"),
                (f"max(finetune_train_data_wait_seconds{{{THIS}}})", "wait for data"),
            ),
            unit="s",
        ),
        curves(
            "Peak memory",
            "Most memory of rank 0 so far: the accelerator's, or the process's on a CPU.",
            [query(f"max(finetune_train_peak_memory_bytes{{{THIS}}})", "rank 0")],
            unit="bytes",
        ),
        curves(
            "Share of the GPUs' peak (MFU)",
            "What the model's arithmetic needs, as a share of what the GPUs can do in bfloat16 at "
            "most. 30 to 50 % is good for a whole model. Empty where the peak is not known, as on "
            "a CPU.",
            [query(f"max(finetune_train_mfu_ratio{{{THIS}}})", "MFU")],
            unit="percentunit",
            nothing="The peak is not known.",
        ),
        curves(
            "Work at risk",
            "Time since the last checkpoint: what a pod that is killed now would cost. "
            "A suspension or a drain costs nothing.",
            [
                query(
                    f"time() - max(finetune_train_last_checkpoint_timestamp_seconds{{{THIS}}})",
                    "since the last checkpoint",
                )
            ],
            unit="s",
        ),
        curves(
            "Steps skipped",
            "Steps whose loss or gradient was not finite. Three in a row end the run.",
            [query(f"max(finetune_train_skipped_steps_total{{{THIS}}})", "skipped")],
            unit="short",
        ).override_by_name("skipped", color_of(RED)),
    ]

"""FineTune / Run: for the owner of one run. Does it go on, does it learn, how fast, and on what?

What is above the first row is told by the operator and the trainer alone; rows below that need
something else in the cluster say so and are closed.
"""

from __future__ import annotations

from urllib.parse import quote

from grafana_foundation_sdk.builders import common, dashboard, logs, loki, statetimeline
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model

from finetune_dashboards import parts
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
PODS = 'namespace="$namespace", pod=~"$run-(prepare|train|merge|upload)-.+"'
LOGS = f"{{{PODS}}}"
NOT_TRAINING = "Not training."
# Where Prometheus keeps the exporter's own labels, the pod's are `exported_…`.
_TRAINING_POD = "$run-train-[0-9]+-[0-9]+-.+"
_DCGM = (
    f'namespace="$namespace", pod=~"{_TRAINING_POD}"',
    f'exported_namespace="$namespace", exported_pod=~"{_TRAINING_POD}"',
)


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
    made.link(_explore())
    for mark in _marks():
        made.annotation(mark)
    for panel in (*_now(), _stages(), *_learning()):
        made.with_panel(panel)
    made.with_row(dashboard.Row("Speed and memory"))
    for panel in _speed():
        made.with_panel(panel)
    made.with_row(_closed("GPUs: needs the DCGM exporter", _gpus()))
    made.with_row(_closed("Pods and workspace: needs the kubelets' metrics", _pods()))
    return made.with_row(dashboard.Row("Logs: needs Loki").with_panel(_logs()))


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


def _gpus() -> list[parts.Panel]:
    def of(metric: str, scale: str = "") -> str:
        arms = " or ".join(f"{metric}{{{labels}}}" for labels in _DCGM)
        return f"max by (Hostname, gpu) ({arms}){scale}"

    each = "{{Hostname}} GPU {{gpu}}"
    return [
        curves(
            "GPU busy",
            "Share of the time in which the GPU computes anything at all.",
            [query(of("DCGM_FI_DEV_GPU_UTIL", " / 100"), each)],
            unit="percentunit",
        ).max(1),
        curves(
            "Tensor cores busy",
            "Share of the time in which the tensor cores compute: where training's work is done.",
            [query(of("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"), each)],
            unit="percentunit",
        ).max(1),
        curves(
            "GPU memory in use",
            "By all processes on the GPU.",
            [query(of("DCGM_FI_DEV_FB_USED", " * 1048576"), each)],
            unit="bytes",
        ),
        curves("Power", "Of each GPU.", [query(of("DCGM_FI_DEV_POWER_USAGE"), each)], unit="watt"),
        curves(
            "Temperature",
            "Of each GPU. Most slow down above 85 °C.",
            [query(of("DCGM_FI_DEV_GPU_TEMP"), each)],
            unit="celsius",
        ),
        curves(
            "Last Xid",
            "The last error that the driver has reported on this GPU, also before this run; 0: "
            "none. NVIDIA's list tells what a number means.",
            [query(of("DCGM_FI_DEV_XID_ERRORS"), each)],
            unit="none",
        ),
    ]


def _pods() -> list[parts.Panel]:
    claim = 'namespace="$namespace", persistentvolumeclaim="$run-workspace"'
    workspace = curves(
        "Workspace",
        "Space used on the workspace's volume, and its size. Not told for a claim of your own "
        "(spec.storage.claimName).",
        queries(
            (f"max(kubelet_volume_stats_used_bytes{{{claim}}})", "used"),
            (f"max(kubelet_volume_stats_capacity_bytes{{{claim}}})", "size"),
        ),
        unit="bytes",
    )
    workspace.override_by_name("size", color_of(RED))
    return [
        workspace,
        curves(
            "Memory of the pods",
            "Of every stage. A stage that needs more than its limit is killed and counts as out of "
            "memory.",
            [
                query(
                    f'sum by (pod) (container_memory_working_set_bytes{{{PODS}, container!=""}})',
                    "{{pod}}",
                )
            ],
            unit="bytes",
        ),
        curves(
            "CPU of the pods",
            "Cores that each pod keeps busy.",
            [
                query(
                    "sum by (pod) (rate(container_cpu_usage_seconds_total"
                    f'{{{PODS}, container!=""}}[$__rate_interval]))',
                    "{{pod}}",
                )
            ],
            unit="suffix: cores",
        ),
    ]


def _logs() -> logs.Panel:
    """Every line of every stage's pods."""
    return (
        logs.Panel()
        .title("Logs of all stages")
        .description(
            "Newest first. Needs a Loki with the labels namespace and pod, as Promtail and Alloy "
            "set them. Without one: `kubectl finetune logs`."
        )
        .datasource(parts.LOKI)
        .with_target(loki.Dataquery().expr(LOGS).ref_id("A").datasource(parts.LOKI))
        .show_time(True)
        .wrap_log_message(True)
        .enable_log_details(True)
        .sort_order(looks.LogsSortOrder.DESCENDING)
        .dedup_strategy(looks.LogsDedupStrategy.NONE)
        .height(14)
        .span(24)
    )


def _explore() -> dashboard.DashboardLink:
    """To the same lines in Explore, where they can be searched."""
    text = LOGS.replace('"', '\\"')
    pane = (
        '{"a":{"datasource":"${loki}","queries":[{"refId":"A","datasource":{"type":"loki","uid":'
        f'"${{loki}}"}},"expr":"{text}"}}],'
        '"range":{"from":"${__from}","to":"${__to}"}}}'
    )
    return (
        dashboard.DashboardLink("Logs")
        .type(model.DashboardLinkType.LINK)
        .url("/explore?schemaVersion=1&panes=" + quote(pane, safe="${}:,_"))
        .icon("doc")
        .tooltip("The run's logs in Explore; needs Loki")
        .target_blank(True)
    )

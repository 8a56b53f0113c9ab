"""FineTune / Fleet: for those who run the platform. Does anything want a look, what runs, where do
the GPUs go?
"""

from __future__ import annotations

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, table
from grafana_foundation_sdk.models import dashboard as model

from finetune_dashboards import parts
from finetune_dashboards.parts import (
    ANY_IS_BAD,
    ANY_WANTS_A_LOOK,
    GREEN,
    GREY,
    ORANGE,
    RED,
    bars,
    curves,
    figure,
    queries,
    query,
    setting,
)

HERE = 'namespace=~"$namespace"'
ENDED = "Succeeded|Failed"
OF_RUN = "namespace, finetunejob"
LINK = parts.run_link("${__data.fields.Namespace}", "${__data.fields.Run}")
ADDED_UP = (
    "Counted when an attempt ends, and anew when the operator starts; what a former operator "
    "counted in this time is left out of it if the number is lower now than then."
)


def board() -> dashboard.Dashboard:
    """The first of the three: everything at a glance, and from there to one run."""
    made = parts.page(
        parts.FLEET,
        "FineTune / Fleet",
        "All fine-tuning runs: what runs, what waits, what has failed, and where the GPUs go.",
        since="now-6h",
        refresh="1m",
    )
    made.with_variable(
        parts.variable(
            "namespace", "Namespace", "label_values(finetune_runs, namespace)", several=True
        )
    )
    made.annotation(parts.operator_starts("finetune_operator_build_info"))
    for panel in _now():
        made.with_panel(panel)
    made.with_panel(_runs()).with_panel(_failed()).with_panel(_reasons())
    made.with_row(dashboard.Row("GPUs"))
    for panel in _gpus():
        made.with_panel(panel)
    made.with_row(dashboard.Row("Work"))
    for panel in _work():
        made.with_panel(panel)
    return made


def _now() -> list[parts.Panel]:
    return [
        figure(
            "Runs under way",
            "FineTuneJobs that have neither succeeded nor failed, suspended ones included.",
            f'sum(finetune_runs{{{HERE}, phase!~"{ENDED}"}}) or vector(0)',
        ),
        figure(
            "GPUs at work",
            "GPUs of training whose pods have all started.",
            f'sum(finetune_gpus{{{HERE}, state="Running"}}) or vector(0)',
        ),
        figure(
            "GPUs waited for",
            "GPUs of training of which at least one pod has not started. Those that have hold "
            "their GPUs meanwhile.",
            f"sum(finetunejob_waiting_gpus{{{HERE}}}) or vector(0)",
            steps=ANY_WANTS_A_LOOK,
        ),
        figure(
            "At the last attempt",
            "Runs whose current stage has failed before and has one attempt left.",
            f"count(finetunejob_attempts_left{{{HERE}}} == 1 and finetunejob_stage_failures > 0)"
            " or vector(0)",
            steps=ANY_WANTS_A_LOOK,
        ),
        figure(
            "Failed in the last hour",
            "Runs that have failed for good within the last hour.",
            f"count(finetunejob_failed_timestamp_seconds{{{HERE}}}) or vector(0)",
            steps=ANY_IS_BAD,
        ),
        figure(
            "Alerts",
            "Alerts of this project that fire, of any namespace; 0 also where the alert rules of "
            "manifests/monitoring are not installed.",
            'count(ALERTS{alertname=~"FineTune.+", alertstate="firing"}) or vector(0)',
            steps=ANY_IS_BAD,
        ),
    ]


def _runs() -> table.Panel:
    """A row for each run under way; queries are columns, matched by namespace and run."""
    columns = {
        "B": "finetunejob_progress_ratio",
        "C": "finetunejob_remaining_seconds",
        "D": "finetunejob_stage_attempt",
        "E": "finetunejob_attempts_left",
        "F": "finetunejob_waiting_gpus",
    }
    targets = [
        query(f"max by ({OF_RUN}, phase, stage) (finetunejob_info{{{HERE}}})", ref="A", rows=True),
        *(
            query(f"max by ({OF_RUN}) ({name}{{{HERE}}})", ref=ref, rows=True)
            for ref, name in columns.items()
        ),
        query(
            f"time() - max by ({OF_RUN}) (finetunejob_progress_timestamp_seconds{{{HERE}}})",
            ref="G",
            rows=True,
        ),
    ]
    names = {
        "namespace": "Namespace",
        "finetunejob": "Run",
        "phase": "Phase",
        "stage": "Stage",
        "Value #D": "Attempt",
        "Value #B": "Progress",
        "Value #C": "Time left",
        "Value #F": "GPUs waited for",
        "Value #E": "Attempts left",
        "Value #G": "Last report",
    }
    return _table(
        "Runs under way",
        "A row for each run that has not ended. A name leads to the run's own page. Progress, time "
        "left and last report are those of training.",
        targets,
        names,
        hidden=["Time", "Value #A"],
        height=9,
        width=24,
        settings={
            "Progress": [
                setting("unit", "percentunit"),
                setting("min", 0),
                setting("max", 1),
                setting("custom.cellOptions", {"type": "gauge", "mode": "basic"}),
                setting("color", {"mode": "fixed", "fixedColor": "blue"}),
                setting("custom.width", 260),
            ],
            "Time left": [setting("unit", "s"), setting("decimals", 0)],
            "GPUs waited for": _coloured((None, "text"), (1, ORANGE)),
            "Attempts left": _coloured((None, ORANGE), (2, "text")),
            "Last report": [
                setting("unit", "s"),
                setting("decimals", 0),
                *_coloured((None, "text"), (300, ORANGE), (900, RED)),
            ],
        },
        sort="Phase",
    )


def _failed() -> table.Panel:
    """What has failed for good, with the reason."""
    return _table(
        "Failed in the last hour",
        "Runs that have failed for good within the last hour, the latest first. A name leads to "
        "the run's curves up to then.",
        [
            query(
                f"max by ({OF_RUN}, stage, reason)"
                f" (finetunejob_failed_timestamp_seconds{{{HERE}}}) * 1000",
                rows=True,
            )
        ],
        {
            "namespace": "Namespace",
            "finetunejob": "Run",
            "stage": "Stage",
            "reason": "Reason",
            "Value": "When",
        },
        hidden=["Time"],
        height=7,
        width=12,
        settings={"When": [setting("unit", "dateTimeFromNow")]},
        sort="When",
        nothing="None.",
    )


def _reasons() -> bargauge.Panel:
    """Why attempts end. A counter that is new in this time has no increase: all of it is."""
    counted = f'finetune_attempts_total{{{HERE}, reason!~"Succeeded|Stopped"}}'
    return bars(
        "Attempts that failed, by reason",
        "In the time that is looked at. Most are tried again. Reasons are those of "
        f"status.attempts. {ADDED_UP}",
        query(
            f"sum by (stage, reason) (({counted} - {counted} offset $__range >= 0) or {counted})",
            "{{stage}}: {{reason}}",
            now=True,
        ),
        unit="short",
        width=12,
    ).height(7)


def _gpus() -> list[parts.Panel]:
    spent = f"increase(finetune_gpu_seconds_total{{{HERE}}}[$__range])"
    states = curves(
        "GPUs by state",
        "GPUs that training asks for. Waiting: a pod has not started; Suspended: queued, for "
        "example by Kueue; Stopping and Deleting: an attempt ends.",
        [query(f"sum by (state) (finetune_gpus{{{HERE}}})", "{{state}}")],
        unit="short",
        width=12,
        stacked=True,
        nothing="No training.",
    )
    for state, color in (("Running", GREEN), ("Waiting", ORANGE), ("Suspended", GREY)):
        states.override_by_name(state, parts.color_of(color))
    return [
        states,
        curves(
            "Busy GPUs, by run (needs the DCGM exporter)",
            "Share of the time that a run's GPUs compute. A run that trains and stays below 10 % "
            "wastes its GPUs. Needs NVIDIA's DCGM exporter and the recording rules of "
            "manifests/monitoring; empty without them.",
            [
                query(
                    f"namespace_finetunejob:gpu_utilization_ratio:avg{{{HERE}}}",
                    "{{namespace}}/{{finetunejob}}",
                )
            ],
            unit="percentunit",
            width=12,
            nothing="Needs the DCGM exporter.",
        )
        .max(1)
        .data_links(
            [
                dashboard.DashboardLink("Open this run").url(
                    str(
                        parts.run_link(
                            "${__field.labels.namespace}", "${__field.labels.finetunejob}"
                        )[0]["url"]
                    )
                )
            ]
        ),
        bars(
            "GPU time, by namespace",
            f"Of training attempts that have ended in this time. {ADDED_UP} For accounts take the "
            "FineTuneJobs themselves.",
            query(f"sum by (namespace) ({spent})", "{{namespace}}", now=True),
            unit="s",
            width=12,
        ),
        bars(
            "GPU time, by outcome",
            "The same by what became of the attempt: time of failed attempts is lost but for what "
            "their checkpoints kept, that of stopped ones is not.",
            query(f"sum by (outcome) ({spent})", "{{outcome}}", now=True),
            unit="s",
            width=12,
        )
        .override_by_name("Failed", parts.color_of(RED))
        .override_by_name("Succeeded", parts.color_of(GREEN)),
    ]


def _work() -> list[parts.Panel]:
    buckets = "sum by (stage, le) (rate(finetune_stage_duration_seconds_bucket[$__range]))"
    return [
        curves(
            "Runs under way, by phase",
            "FineTuneJobs by phase, without those that have ended.",
            [query(f'sum by (phase) (finetune_runs{{{HERE}, phase!~"{ENDED}"}})', "{{phase}}")],
            unit="short",
            stacked=True,
        ),
        curves(
            "Tokens trained on",
            "Of all runs of a namespace, all ranks.",
            [
                query(
                    f"sum by (namespace) (rate(finetune_train_tokens_total{{{HERE}}}"
                    "[$__rate_interval]))",
                    "{{namespace}}",
                )
            ],
            unit="suffix: tok/s",
        ),
        curves(
            "How long stages take",
            "From a stage's first attempt to its end, pauses and waits included, of stages that "
            "ended in the time that is looked at. Of all namespaces.",
            queries(
                (f"histogram_quantile(0.5, {buckets})", "{{stage}}, median"),
                (f"histogram_quantile(0.9, {buckets})", "{{stage}}, 90 %"),
            ),
            unit="s",
        ),
    ]


def _coloured(*steps: tuple[float | None, str]) -> list[model.DynamicConfigValue]:
    """A column whose text is coloured by its value."""
    values = [{"value": value, "color": color} for value, color in steps]
    return [
        setting("thresholds", {"mode": "absolute", "steps": values}),
        setting("custom.cellOptions", {"type": "color-text"}),
        setting("color", {"mode": "thresholds"}),
    ]


def _table(
    title: str,
    description: str,
    targets: list[prometheus.Dataquery],
    names: dict[str, str],
    *,
    hidden: list[str],
    height: int,
    width: int,
    settings: dict[str, list[model.DynamicConfigValue]],
    sort: str,
    nothing: str = "",
) -> table.Panel:
    made = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(parts.PROMETHEUS)
        .targets(list(targets))
        .height(height)
        .span(width)
        .with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            model.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": dict.fromkeys(hidden, True),
                    "indexByName": {name: index for index, name in enumerate(names)},
                    "renameByName": names,
                },
            )
        )
        .sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
        .override_by_name("Run", [setting("links", LINK)])
    )
    for column, values in settings.items():
        made.override_by_name(column, values)
    return made.no_value(nothing) if nothing else made

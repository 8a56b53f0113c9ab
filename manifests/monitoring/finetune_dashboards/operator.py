"""FineTune / Operator: for those who run the operator. Does it see, does it keep up, who fails?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard, prometheus

from finetune_dashboards import parts
from finetune_dashboards.parts import GREEN, ORANGE, RED, color_of, curves, figure, queries, query

HERE = 'job=~"$job"'
INFO = f"finetune_operator_build_info{{{HERE}}}"
BAD_RATIO = ((None, GREEN), (0.01, ORANGE), (0.1, RED))
RATE = "[$__rate_interval]"


def board() -> dashboard.Dashboard:
    """The third of the three: the operator itself, of one release or of all."""
    made = parts.page(
        parts.OPERATOR,
        "FineTune / Operator",
        "The operator's own work: what it sees of the cluster, how long runs wait for it, its "
        "calls to the API server, its process.",
        since="now-1h",
        refresh="30s",
    )
    made.with_variable(
        parts.variable(
            "job", "Operator", "label_values(finetune_operator_build_info, job)", several=True
        )
    )
    made.annotation(parts.operator_starts(INFO))
    for panel in _now():
        made.with_panel(panel)
    for title, panels in (
        ("Looks at runs", _looks()),
        ("Calls to the API server", _calls()),
        ("Watches and process", _process()),
    ):
        made.with_row(dashboard.Row(title))
        for panel in panels:
            made.with_panel(panel)
    return made


def _now() -> list[parts.Panel]:
    failed = f'finetune_operator_api_requests_total{{{HERE}, code=~"0|429|5.."}}'
    called = f"finetune_operator_api_requests_total{{{HERE}}}"
    bad = f'finetune_operator_reconciles_total{{{HERE}, outcome=~"ApiError|Error"}}'
    looked = f"finetune_operator_reconciles_total{{{HERE}}}"
    return [
        figure(
            "Version",
            "Of the operators that are scraped. Nothing here: none is, and training under way goes "
            "on without its next stage.",
            f"max by (version) ({INFO})",
            legend="{{version}}",
            named=True,
            nothing="No operator",
        ),
        figure(
            "Dead watches",
            "Watches that must be alive and are not. With one dead the operator sees changes only "
            "when it lists everything, every five minutes.",
            f"sum(finetune_operator_watches{{{HERE}}} - finetune_operator_watches_live)",
            steps=((None, GREEN), (1, RED)),
        ),
        figure(
            "Last full list",
            "Time since everything was last listed with success; every five minutes is usual.",
            f"time() - min(finetune_operator_last_resync_timestamp_seconds{{{HERE}}})",
            unit="s",
            decimals=0,
            steps=((None, GREEN), (600, ORANGE), (900, RED)),
        ),
        figure(
            "Runs that wait for a worker",
            "Length of the work queue. It is 0 most of the time.",
            f"sum(finetune_operator_queue_depth{{{HERE}}})",
            steps=((None, GREEN), (50, ORANGE)),
        ),
        figure(
            "Calls that fail",
            "Share of the calls to the API server that are not answered, or with 429 or 5xx.",
            f"(sum(rate({failed}{RATE})) or vector(0)) / sum(rate({called}{RATE}))",
            unit="percentunit",
            steps=BAD_RATIO,
        ),
        figure(
            "Looks that fail",
            "Share of the looks at runs that end in an error. A conflict is none: the run is "
            "looked at again with what is new.",
            f"(sum(rate({bad}{RATE})) or vector(0)) / sum(rate({looked}{RATE}))",
            unit="percentunit",
            steps=BAD_RATIO,
        ),
    ]


def _looks() -> list[parts.Panel]:
    outcomes = curves(
        "Looks, by outcome",
        "A look at one run: what is observed, what follows, what is done. Conflict: a newer "
        "version was on its way.",
        [
            query(
                f"sum by (outcome) (rate(finetune_operator_reconciles_total{{{HERE}}}{RATE}))",
                "{{outcome}}",
            )
        ],
        unit="ops",
        stacked=True,
    )
    for outcome, color in (("Done", GREEN), ("Error", RED), ("ApiError", RED)):
        outcomes.override_by_name(outcome, color_of(color))
    return [
        outcomes,
        curves(
            "Time of a look",
            "API calls included.",
            _quantiles("finetune_operator_reconcile_duration_seconds"),
            unit="s",
        ),
        curves(
            "Wait for a worker",
            "From the moment that something happened to a run until it is looked at.",
            _quantiles("finetune_operator_queue_wait_seconds"),
            unit="s",
        ),
    ]


def _calls() -> list[parts.Panel]:
    total = "finetune_operator_api_requests_total"
    duration = f"finetune_operator_api_request_duration_seconds_bucket{{{HERE}}}"
    return [
        curves(
            "Calls, by answer",
            "HTTP status; 0: no answer. 404 and 409 are answers like others.",
            [query(f"sum by (code) (rate({total}{{{HERE}}}{RATE}))", "{{code}}")],
            unit="reqps",
            stacked=True,
        ),
        curves(
            "Calls, by kind",
            "Verb and resource, without watches. A run that nothing happens to costs none but the "
            "full list.",
            [
                query(
                    f"sum by (verb, resource) (rate({total}{{{HERE}}}{RATE}))",
                    "{{verb}} {{resource}}",
                )
            ],
            unit="reqps",
            stacked=True,
        ),
        curves(
            "Time of a call, 99 %",
            "99 of 100 calls are answered sooner. Slow for all verbs: the API server or etcd is.",
            [
                query(
                    f"histogram_quantile(0.99, sum by (verb, le) (rate({duration}{RATE})))",
                    "{{verb}}",
                )
            ],
            unit="s",
        ),
    ]


def _process() -> list[parts.Panel]:
    def of_operator(metric: str) -> str:
        return f"{metric} * on (job, instance) group_left () {INFO}"

    events = f"finetune_operator_watch_events_total{{{HERE}}}"
    each = "{{instance}}"
    return [
        curves(
            "Events that watches tell",
            "By resource. None for long on a busy cluster: see Dead watches.",
            [
                query(f"sum by (resource) (rate({events}{RATE}))", "{{resource}}"),
            ],
            unit="ops",
        ),
        curves(
            "CPU",
            "Cores that the process keeps busy. It works on one at most.",
            [query(of_operator(f"rate(process_cpu_seconds_total{{{HERE}}}{RATE})"), each)],
            unit="suffix: cores",
        ),
        curves(
            "Memory",
            "Resident memory of the process; the manifests limit it to 256 MiB.",
            [query(of_operator(f"process_resident_memory_bytes{{{HERE}}}"), each)],
            unit="bytes",
        ),
    ]


def _quantiles(name: str) -> list[prometheus.Dataquery]:
    buckets = f"sum by (le) (rate({name}_bucket{{{HERE}}}{RATE}))"
    return queries(
        (f"histogram_quantile(0.5, {buckets})", "median"),
        (f"histogram_quantile(0.99, {buckets})", "99 %"),
    )

"""What else in a cluster may tell of one run: its GPUs, pods, volume and logs. Each is a row of the
run's page that stays closed until it is opened, and says what it needs.
"""

from __future__ import annotations

from urllib.parse import quote

from grafana_foundation_sdk.builders import dashboard, logs, loki
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model

from finetune_dashboards import parts
from finetune_dashboards.parts import RED, color_of, curves, queries, query

PODS = 'namespace="$namespace", pod=~"$run-(prepare|train|merge|upload)-.+"'
LOGS = f"{{{PODS}}}"
# Where Prometheus keeps the exporter's own labels, the pod's are `exported_…`.
_TRAINING_POD = "$run-train-[0-9]+-[0-9]+-.+"
_DCGM = (
    f'namespace="$namespace", pod=~"{_TRAINING_POD}"',
    f'exported_namespace="$namespace", exported_pod=~"{_TRAINING_POD}"',
)


def gpus() -> list[parts.Panel]:
    """What the DCGM exporter measures on the run's GPUs."""

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


def pods() -> list[parts.Panel]:
    """What kubelets measure of the run's volume and pods."""
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


def logs_of_run() -> logs.Panel:
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


def explore() -> dashboard.DashboardLink:
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

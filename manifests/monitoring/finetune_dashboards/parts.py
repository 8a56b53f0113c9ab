"""What the dashboards share: data sources, variables, marks on time axes, and how panels look.

A panel has a title, a description that says how to read it, a unit, and colours that mean the same
everywhere: green is well, orange wants a look, red has gone wrong, blue and purple mean nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

Panel = bargauge.Panel | stat.Panel | statetimeline.Panel | table.Panel | timeseries.Panel
Steps = Sequence[tuple[float | None, str]]

PROMETHEUS = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
LOKI = model.DataSourceRef(type_val="loki", uid="${loki}")
TAG = "finetune"
GREEN, ORANGE, RED, GREY, BLUE = "green", "orange", "red", "#8e8e8e", "blue"
ANY_IS_BAD: Steps = ((None, GREEN), (1, RED))
ANY_WANTS_A_LOOK: Steps = ((None, GREEN), (1, ORANGE))
FLEET, RUN, OPERATOR = "finetune-fleet", "finetune-run", "finetune-operator"


def page(
    uid: str, title: str, description: str, *, since: str, refresh: str
) -> dashboard.Dashboard:
    """A dashboard with the data source to choose and links to the others."""
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .time(since, "now")
        .refresh(refresh)
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource")
            .label("Prometheus")
            .description("The Prometheus that scrapes the operator and the runs.")
            .type("prometheus")
        )
    )
    return made.link(
        dashboard.DashboardLink("FineTune")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        # All namespaces of the fleet are none of a run's: nothing is carried over but the time.
        .include_vars(False)
        .keep_time(True)
        .icon("external link")
        .tooltip("Fleet, one run, operator")
    )


def variable(
    name: str, label: str, query: str, *, several: bool = False
) -> dashboard.QueryVariable:
    """Values of a label in the time that is looked at: `label_values(SERIES, LABEL)`."""
    made = (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(PROMETHEUS)
        .query({"query": query, "refId": name, "qryType": 1})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )
    if several:
        everything = model.VariableOption(text="All", value="$__all", selected=True)
        made.multi(True).include_all(True).all_value(".*").current(everything)
    return made


class Marks(model.AnnotationQuery, Builder[model.AnnotationQuery]):
    """Marks from Prometheus, with what the SDK's model does not have of its annotations.

    The query stands in two places: older Grafanas read `expr`, some newer ones only `target`.
    """

    def __init__(
        self, name: str, expr: str, *, title: str, text: str, color: str, at: bool
    ) -> None:
        super().__init__(name=name, datasource=PROMETHEUS, enable=True, icon_color=color)
        self._more: dict[str, object] = {
            "expr": expr,
            "target": {"expr": expr, "refId": "Anno", "range": True, "instant": False},
            "titleFormat": title,
            "textFormat": text,
            "useValueForTime": at,
        }

    def to_json(self) -> dict[str, object]:
        return {**super().to_json(), **self._more}

    def build(self) -> Marks:
        """It is its own builder."""
        return self


def marks(
    name: str, expr: str, *, title: str, text: str = "", color: str, at: bool = False
) -> Marks:
    """A mark wherever `expr` has a value above 0; with `at`, at the milliseconds that it gives."""
    return Marks(name, expr, title=title, text=text, color=color, at=at)


def operator_starts(job: str) -> Marks:
    """Where an operator has started: its counters begin anew there."""
    expr = f"process_start_time_seconds * on (job, instance) group_left (version) {job} * 1000"
    told = "version {{version}}"
    return marks("Operator starts", expr, title="Operator started", text=told, color=BLUE, at=True)


def query(
    expr: str, legend: str = "", *, ref: str = "A", now: bool = False, rows: bool = False
) -> prometheus.Dataquery:
    """A query of Prometheus; `now`: only its latest value, `rows`: as a table."""
    made = prometheus.Dataquery().expr(expr).ref_id(ref).datasource(PROMETHEUS)
    made.legend_format(legend or "__auto")
    made.format(PromQueryFormat.TABLE if rows else PromQueryFormat.TIME_SERIES)
    return made.instant() if now or rows else made.range()


def queries(*pairs: tuple[str, str], now: bool = False) -> list[prometheus.Dataquery]:
    """Several of (expression, legend)."""
    return [
        query(expr, legend, ref=chr(ord("A") + number), now=now)
        for number, (expr, legend) in enumerate(pairs)
    ]


def thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    """Colours from these values on; the first is that of what is below."""
    return (
        dashboard.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value=value, color=color) for value, color in steps])
    )


def fixed(color: str) -> dashboard.FieldColor:
    """This colour, whatever the value."""
    return dashboard.FieldColor().mode(model.FieldColorModeId.FIXED).fixed_color(color)


def by_threshold() -> dashboard.FieldColor:
    """The colour of the threshold that the value is above."""
    return dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS)


def figure(
    title: str,
    description: str,
    expr: str,
    *,
    unit: str = "short",
    steps: Steps = ((None, BLUE),),
    width: int = 4,
    legend: str = "",
    named: bool = False,
    decimals: int | None = None,
    nothing: str = "-",
) -> stat.Panel:
    """One number to look at first; `named` shows the legend in its place."""
    mode = looks.BigValueTextMode.NAME if named else looks.BigValueTextMode.VALUE
    made = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .with_target(query(expr, legend, now=named))
        .unit(unit)
        .thresholds(thresholds(steps))
        .color_scheme(by_threshold())
        .color_mode(looks.BigValueColorMode.VALUE)
        .graph_mode(looks.BigValueGraphMode.NONE if named else looks.BigValueGraphMode.AREA)
        .text_mode(mode)
        .no_value(nothing)
        .height(4)
        .span(width)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    )
    return made if decimals is None else made.decimals(decimals)


def curves(
    title: str,
    description: str,
    targets: Sequence[prometheus.Dataquery],
    *,
    unit: str,
    width: int = 8,
    height: int = 8,
    stacked: bool = False,
    lowest: float | None = 0,
    nothing: str = "",
) -> timeseries.Panel:
    """Values over time, with the latest ones beside the legend's names."""
    legend = (
        common.VizLegendOptions()
        .display_mode(looks.LegendDisplayMode.TABLE)
        .placement(looks.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )
    made = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .targets(list(targets))
        .unit(unit)
        .height(height)
        .span(width)
        .line_width(2)
        .fill_opacity(60 if stacked else 0)
        .show_points(looks.VisibilityMode.AUTO)
        .legend(legend)
        .tooltip(
            common.VizTooltipOptions()
            .mode(looks.TooltipDisplayMode.MULTI)
            .sort(looks.SortOrder.DESCENDING)
        )
    )
    if stacked:
        made.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL).group("A"))
        made.line_width(1)
    if lowest is not None:
        made.min(lowest)
    return made.no_value(nothing) if nothing else made


def bars(
    title: str, description: str, target: prometheus.Dataquery, *, unit: str, width: int = 8
) -> bargauge.Panel:
    """One horizontal bar a series, with its value at the end of the time that is looked at."""
    return (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .with_target(target)
        .unit(unit)
        .min(0)
        .thresholds(thresholds(((None, BLUE),)))
        .color_scheme(by_threshold())
        .orientation(looks.VizOrientation.HORIZONTAL)
        .display_mode(looks.BarGaugeDisplayMode.BASIC)
        .no_value("none")
        .height(8)
        .span(width)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    )


def setting(name: str, value: Any) -> model.DynamicConfigValue:
    """A setting of a column or series that differs from the rest."""
    return model.DynamicConfigValue(id_val=name, value=value)


def color_of(name: str) -> list[model.DynamicConfigValue]:
    """The same colour for a series wherever it is."""
    return [setting("color", {"mode": "fixed", "fixedColor": name})]


def run_link(namespace: str, run: str) -> list[dict[str, object]]:
    """To the run that a row or series is about, over the same time."""
    address = (
        f"/d/{RUN}?var-namespace={namespace}&var-run={run}&${{datasource:queryparam}}"
        "&${__url_time_range}"
    )
    return [{"title": "Open this run", "url": address, "targetBlank": False}]

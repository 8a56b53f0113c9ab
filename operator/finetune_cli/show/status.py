"""One run on one screen: where it stands, its stages, numbers, loss curve, failed attempts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from finetune_cli.history import History
from finetune_cli.show.curve import HEIGHT, curve
from finetune_cli.view import Run, StageView, dig
from finetune_cli.words import between, count, number, phase_style, span
from finetune_operator.vocabulary import Phase, Stage, StageState

_MARKS = {
    str(StageState.SUCCEEDED): ("✔", "+", "green"),
    str(StageState.FAILED): ("✘", "x", "bold red"),
    str(StageState.RUNNING): ("▶", ">", "cyan"),
}
_WAITING = ("·", ".", "dim")
BAR = 14
# Lines of the curve besides its rows: an empty one, axis, steps, legend, and the cursor's.
CURVE_FRAME, CURVE_LEAST = 5, 4


class StatusView:
    """The view of one run at one moment; it fits itself to the terminal's width."""

    def __init__(
        self,
        run: Run,
        history: History,
        now: datetime,
        *,
        wide: bool = False,
        height: int | None = None,
    ) -> None:
        """`height`: lines that there are, where one cannot scroll; the curve gives way."""
        self.run = run
        self._history = history
        self._now = now
        self._wide = wide
        self._height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, ascii_only = min(options.max_width, 110), options.ascii_only
        above: list[RenderableType] = [_heading(self.run, self._now, width, ascii_only=ascii_only)]
        if self.run.stages:
            above += ["", _stages(self.run, self._now, ascii_only=ascii_only)]
        if numbers := list(_numbers(self.run)):
            above += ["", *numbers]
        below = [*_message(self.run), *_failures(self.run), *_results(self.run)]
        below += _conditions(self.run) if self._wide else []
        rows = HEIGHT
        if self._height is not None:
            taken = len(console.render_lines(Group(*above, *below), options, pad=False))
            rows = min(rows, self._height - taken - CURVE_FRAME)
        if rows >= CURVE_LEAST:
            drawn = curve(self._history, width - 2, ascii_only=ascii_only, height=rows)
            above += ["", Padding(drawn, (0, 0, 0, 1))] if drawn else []
        yield Group(*above, *below)


def _heading(run: Run, now: datetime, width: int, *, ascii_only: bool) -> RenderableType:
    first = Text.assemble((run.name, "bold"), (f"  in {run.namespace}", "dim"))
    phase = Text(run.phase, style=phase_style(run.phase))
    end = run.ended or now
    if run.started:
        word = "after" if run.ended else "for"
        phase.append(f" {word} {between(run.started, end)}", "dim")
    line = Table.grid(expand=False, padding=0)
    line.width = width
    line.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    line.add_column(justify="right", no_wrap=True)
    line.add_row(first, phase)
    what = [run.model, run.method, run.data]
    if run.gpus:
        what.append(f"{run.gpus} GPU" + ("s" if run.gpus > 1 else ""))
    second = Text((" - " if ascii_only else " · ").join(part for part in what if part), style="dim")
    return Group(line, second)


def _stages(run: Run, now: datetime, *, ascii_only: bool) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(overflow="fold")
    for stage in run.stages:
        mark, plain, style = _MARKS.get(stage.state, _WAITING)
        table.add_row(
            Text(" " + (plain if ascii_only else mark), style),
            Text(stage.name, style if stage.state in _MARKS else "dim"),
            Text(_duration(stage, now), "dim"),
            _told(run, stage, ascii_only=ascii_only),
        )
    return table


def _duration(stage: StageView, now: datetime) -> str:
    if stage.started is None:
        return ""
    if stage.ended is None and not stage.runs:
        return ""
    return between(stage.started, stage.ended or now)


def _told(run: Run, stage: StageView, *, ascii_only: bool) -> Text:
    text = Text()
    if stage.attempt > 1:
        text.append(f"attempt {stage.attempt}", "yellow")
    percent = dig(run.status, "progress.percent")
    if stage.name == Stage.TRAIN and stage.state != StageState.SUCCEEDED and percent is not None:
        text.append("  " if text else "")
        text.append_text(_bar(int(percent), ascii_only=ascii_only))
        text.append(f" {percent}%  step {dig(run.status, 'progress.display.step', '-')}")
        eta = dig(run.status, "progress.etaSeconds")
        if stage.runs and eta is not None:
            text.append(f"  {span(eta)} left")
    if stage.message and stage.state == StageState.SUCCEEDED:
        text.append(("  " if text else "") + stage.message, "dim")
    elif not text and stage.runs:
        text.append("waits" if run.waits else "runs", "yellow" if run.waits else "")
    return text


def _bar(percent: int, *, ascii_only: bool) -> Text:
    done = round(BAR * min(100, max(0, percent)) / 100)
    full, empty = ("#", "-") if ascii_only else ("━", "─")
    return Text.assemble((full * done, "cyan"), (empty * (BAR - done), "bright_black"))


def _numbers(run: Run) -> Iterator[Text]:
    metrics, progress = run.metrics, dig(run.status, "progress", {})
    resolved = dig(run.status, "resolved.learningRate") if metrics else None
    training = [
        ("loss", number(metrics.get("loss"))),
        ("validation", number(metrics.get("validationLoss"))),
        ("base", number(metrics.get("baseValidationLoss"))),
        ("lr", number(metrics.get("learningRate") or resolved, 3)),
        ("epoch", number(progress.get("epoch"), 3)),
        ("tokens/s", number(progress.get("tokensPerSecond"))),
    ]
    memory = [
        ("memory", str(dig(run.status, "memory.measured", "-"))),
        ("estimated", str(dig(run.status, "memory.estimated", "-"))),
        ("trained", _share(run)),
        ("strategy", str(dig(run.status, "resolved.strategy", "-"))),
        ("saved at step", str(progress.get("checkpointStep", "-"))),
        ("skipped steps", str(metrics.get("skippedSteps", "-"))),
    ]
    for pairs in (training, memory):
        known = [(name, value) for name, value in pairs if value not in ("-", "0")]
        if known:
            parts = [part for name, value in known for part in ((f" {name} ", "dim"), f"{value}  ")]
            yield Text.assemble(*parts)


def _share(run: Run) -> str:
    trained = dig(run.status, "resolved.trainableParameters")
    whole = dig(run.status, "resolved.parameters")
    return f"{count(trained)} of {count(whole)}" if trained and whole else "-"


def _message(run: Run) -> list[RenderableType]:
    if run.phase == Phase.SUCCEEDED or not run.message:
        return []
    style = {str(Phase.FAILED): "bold red"}.get(run.phase, "yellow" if run.waits else "")
    text = Text(run.message, style=style)
    return ["", Padding(text, (0, 0, 0, 1))]


def _failures(run: Run) -> list[RenderableType]:
    attempts = run.status.get("attempts", [])
    if not attempts:
        return []
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for attempt in attempts[-5:]:
        where = [f"step {attempt['step']}" if attempt.get("step") is not None else ""]
        where += [f"exit {attempt['exitCode']}" if attempt.get("exitCode") is not None else ""]
        where += [f"on {attempt['node']}" if attempt.get("node") else ""]
        message = str(attempt.get("message") or "")
        said_above = run.phase == Phase.FAILED and message.rstrip(".…") in run.message
        table.add_row(
            Text(f" {attempt.get('stage')} {attempt.get('attempt')}", "dim"),
            Text(str(attempt.get("reason")), "yellow"),
            Text.assemble(
                "" if said_above else message,
                (f"  ({', '.join(part for part in where if part)})" if any(where) else "", "dim"),
            ),
        )
    return ["", Text(" failed attempts", "dim"), table]


def _results(run: Run) -> list[RenderableType]:
    artifacts = dig(run.status, "artifacts", {})
    if not run.is_over or run.phase != Phase.SUCCEEDED:
        return []
    lines = []
    if artifacts.get("url") or artifacts.get("repository"):
        commit = str(artifacts.get("commit") or "")[:8]
        where = str(artifacts.get("url") or artifacts.get("repository"))
        lines.append(Text.assemble((" published  ", "dim"), where, (f"  {commit}", "dim")))
    for kind in ("adapter", "merged"):
        if artifacts.get(kind):
            place = f"{artifacts.get('claimName')}/{artifacts[kind]}"
            lines.append(Text.assemble((f" {kind:<9}  ", "dim"), f"pvc://{place}"))
    return ["", *lines] if lines else []


def _conditions(run: Run) -> list[RenderableType]:
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for condition in run.status.get("conditions", []):
        table.add_row(
            Text(f" {condition['type']}"),
            Text(
                str(condition["status"]), style="bold" if condition["status"] == "True" else "dim"
            ),
            Text(str(condition.get("reason", "")), style="dim"),
            Text(str(condition.get("message", "")), style="dim"),
        )
    return ["", Text(" conditions", "dim"), table] if table.row_count else []

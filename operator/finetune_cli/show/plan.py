"""What will run: model, data and method, derived settings, Jobs, and what is made besides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from finetune_cli.preview import Preview
from finetune_cli.show.screen import columns
from finetune_cli.view import Run, dig, method_in_words, shown_source
from finetune_cli.words import count, span


def view(found: Preview, run: Run | None, *, everything: bool) -> RenderableType:
    """The plan of a run; `run` as the cluster knows it, None when only a file is there."""
    plan = found.plan
    title = Text.assemble(
        (str(plan.run["name"]), "bold"),
        (f"  in {plan.run['namespace']}" + (f"  plan {found.hash}" if found.hash else ""), "dim"),
    )
    return Group(
        title,
        "",
        _indented(_what(found, run)),
        "",
        Text("Settings" if everything else "Derived settings", style="bold"),
        _indented(_settings(found.settings if everything else found.derived, found.given)),
        "",
        Text("Jobs", style="bold"),
        _indented(_jobs(found)),
        "",
        Text("Memory and steps", style="bold"),
        *(_indented(line) for line in costs(found, run)),
        "",
        Text("Besides", style="bold"),
        *(_indented(line) for line in _besides(found)),
    )


def _indented(part: RenderableType) -> RenderableType:
    return Padding(part, (0, 0, 0, 2))


def _what(found: Preview, seen: Run | None) -> Table:
    run, resolved = found.plan.run, dig(seen.status, "resolved", {}) if seen else {}
    table = _pairs()
    table.add_row("task", str(run["task"]))
    table.add_row("model", _source(run["model"], resolved.get("modelCommit")))
    datasets = run.get("datasets") or [run["dataset"]]
    for dataset in datasets:
        commit = resolved.get("datasetCommit") if len(datasets) == 1 else None
        extra = [f"format {next(iter(dataset['format']), '')}", f"loss on {dataset['loss']}"]
        extra += [f"split {dataset['split']}"] if dataset.get("split") else []
        table.add_row("data", ", ".join([_source(dataset, commit), *extra]))
    table.add_row("method", method_in_words(run["method"]))
    nodes, gpus = run["resources"]["nodes"], run["resources"]["gpusPerNode"]
    devices = f"{gpus} GPU{'s' if gpus != 1 else ''} on each" if gpus else "CPUs only"
    table.add_row("on", f"{nodes} node{'s' if nodes > 1 else ''}, {devices}")
    if upload := run.get("upload"):
        what = " and ".join(upload["artifacts"])
        table.add_row("to", f"{upload['repository']} ({what}, branch {upload['branch']})")
    else:
        table.add_row("to", "the workspace only")
    table.add_row("image", found.image)
    return table


def _source(part: Mapping[str, str], commit: str | None) -> str:
    revision = f" at {part['revision']}" if part.get("revision") else ""
    pinned = f" (commit {commit[:8]})" if commit and commit != part.get("revision") else ""
    return shown_source(part["source"]) + revision + pinned


def _settings(settings: Mapping[str, str], given: frozenset[str]) -> Table:
    table = _pairs()
    for path, value in settings.items():
        style = "bold" if path in given else ""
        table.add_row(path, Text(value, style=style))
    return table


def _jobs(found: Preview) -> Table:
    table = columns("STAGE", "FIRST JOB", "PODS", "EACH ASKS FOR", "SECRETS")
    for column in table.columns[3:]:
        column.no_wrap = False
    for job in found.jobs:
        asks = ", ".join(f"{amount} {name}" for name, amount in job.asks.items())
        table.add_row(
            job.stage, job.name, str(job.pods), asks or "-", ", ".join(job.secrets) or "-"
        )
    return table


def costs(found: Preview, run: Run | None) -> Iterator[Text]:
    """What prepare has found out of a run: steps, time, memory; before that, how to know."""
    status = run.status if run else {}
    training = found.plan.run["training"]
    steps = dig(status, "resolved.totalSteps") or training.get("maxSteps")
    memory = dig(status, "memory.estimated")
    if steps:
        yield Text(f"{steps} steps" + (f" of {_batch(training)}" if _batch(training) else ""))
    else:
        epochs = training["epochs"]
        yield Text(f"{epochs} epoch{'s' if epochs > 1 else ''}; prepare counts the steps")
    if time := dig(status, "resolved.timeEstimate"):
        yield Text(f"about {time}, estimated by prepare")
    if memory:
        yield Text(f"{memory} in each training process, estimated by prepare")
    else:
        yield Text(
            "time and memory: `finetune run FILE --until prepare` estimates them from model and "
            "data"
        )
    if measured := dig(status, "memory.measured"):
        yield Text(f"{measured} measured")
    if trained := dig(status, "resolved.trainableParameters"):
        whole = dig(status, "resolved.parameters")
        yield Text(f"{count(trained)} of {count(whole)} weights are trained")
    if (eta := dig(status, "progress.etaSeconds")) is not None and run and not run.is_over:
        yield Text(f"{span(eta)} left")


def _batch(training: Mapping[str, object]) -> str:
    for key, unit in (("sequencesPerStep", "sequences"), ("tokensPerStep", "tokens")):
        if training.get(key):
            return f"{training[key]} {unit}"
    return ""


def _besides(found: Preview) -> Iterator[Text]:
    for item in found.others:
        name = item["metadata"]["name"]
        match item["kind"]:
            case "PersistentVolumeClaim":
                size = item["spec"]["resources"]["requests"]["storage"]
                mode = ", ".join(item["spec"]["accessModes"])
                storage = item["spec"].get("storageClassName", "the default storage class")
                yield Text(f"PersistentVolumeClaim {name}: {size}, {mode}, of {storage}")
            case "ConfigMap":
                shown = name if found.hash else f"{found.plan.run['name']}-plan-…"
                yield Text(f"ConfigMap {shown}: the plan, pinned at the start")
            case "Service":
                yield Text(f"Service {name}: the names of the training pods")


def _pairs() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    return table

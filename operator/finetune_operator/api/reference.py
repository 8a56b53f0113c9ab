"""docs/api-reference.md, from the CustomResourceDefinition: `make crd` writes it.

The schema as people look things up: a table for each object, an anchor for each field, rules as the
sentences that the API server says. How one table is written is in `reference_tables`; what a reason
means and what to do is in docs/troubleshooting.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any

from finetune_operator.api.crdgen import definition
from finetune_operator.api.reference_tables import Tables, rules, table
from finetune_operator.vocabulary import (
    API_VERSION,
    CONDITION_OF_STAGE,
    KIND,
    PHASE_OF_STAGE,
    ConditionType,
    EventReason,
    FailureReason,
    Phase,
    RefusalReason,
    WaitReason,
)

Json = dict[str, Any]

_INTRODUCTION = """\
<!-- Generated from operator/finetune_operator/api by `make crd`: change the models, not this. -->

# API reference

`{version}`, kind `{kind}`: a fine-tuning run. kubectl knows it as `{plural}`, `{singular}` and
`{short}`, and all kinds of this project as `{category}`. It belongs to a namespace, and its status
is a subresource.

The same words are in the cluster: `kubectl explain {short}.spec.training`. A field has the address
`#spec.training.epochs` on this page. Numbers that need not be whole are strings in quotes
(`"2e-4"`): floats do not survive every tool. A field without a default is absent until you set it;
what the operator derives is shown in [status.resolved](#status.resolved). What a combination of
fields may not be stands below each table, in the words of the API server's refusal.
"""

PHASES = {
    Phase.PENDING: "Nobody has looked at it yet, or its start waits; the message says for what",
    Phase.SUSPENDED: "`spec.suspend` is true: no pod runs, nothing is lost",
    Phase.SUCCEEDED: "All stages are done",
    Phase.FAILED: "It does not go on by itself; the message says what to change",
    **{phase: f"`{stage}` runs, waits or pauses" for stage, phase in PHASE_OF_STAGE.items()},
}

CONDITIONS = {
    ConditionType.READY: "there is a result. Its message always says how the run stands",
    ConditionType.SUCCEEDED: "the run has ended well",
    ConditionType.FAILED: "the run has ended without success",
    ConditionType.SUSPENDED: "the run is suspended",
    ConditionType.RECONCILING: "the run goes on or waits (kstatus: in progress)",
    ConditionType.STALLED: "only a person can help (kstatus: failed)",
    **{kind: f"`{stage}` is done" for stage, kind in CONDITION_OF_STAGE.items()},
}

_REASONS: dict[str, type[StrEnum]] = {
    "Why an attempt failed (also `status.attempts[].reason`)": FailureReason,
    "Why the run does not start or does not go on": RefusalReason,
    "What it waits for, or was asked for in vain": WaitReason,
    "Events besides": EventReason,
}


def page() -> str:
    """The page as Markdown: the same text for the same models."""
    crd = definition()
    names, (version,) = crd["spec"]["names"], crd["spec"]["versions"]
    root = version["schema"]["openAPIV3Schema"]
    introduction = _INTRODUCTION.format(
        version=API_VERSION,
        kind=KIND,
        plural=names["plural"],
        singular=names["singular"],
        short=names["shortNames"][0],
        category=names["categories"][0],
    )
    parts = [
        introduction,
        _contents(root),
        f"## {KIND}\n",
        rules(root),
        *_tables(root),
        _columns(version["additionalPrinterColumns"]),
        _phases(),
        _conditions(),
        _reasons(),
    ]
    return "\n".join(parts)


def _contents(root: Json) -> str:
    lines = []
    for name in ("spec", "status"):
        below = [
            f"[{field}](#{name}.{field})"
            for field, node in root["properties"][name]["properties"].items()
            if "properties" in node or "properties" in node.get("items", {})
        ]
        lines.append(f"* [{name}](#{name}): {', '.join(below)}")
    lines.append(
        "* [columns](#columns-of-kubectl-get), [phases](#phases), [conditions](#conditions), "
        "[reasons](#reasons)"
    )
    return "\n".join([*lines, ""])


def _tables(root: Json) -> Iterator[str]:
    tables = Tables()
    for name in ("spec", "status"):
        yield from tables.sections(name, root["properties"][name])


def _columns(columns: Iterable[Json]) -> str:
    rows = [
        (
            column["name"],
            f"`{column['jsonPath'].removeprefix('.')}`",
            "with `-o wide`" if column.get("priority") else "always",
        )
        for column in columns
    ]
    return _section("Columns of kubectl get", table(("Column", "Field", "Shown"), rows))


def _phases() -> str:
    rows = [(f"`{phase}`", PHASES[phase]) for phase in Phase]
    said = "`status.phase`: one word for people, derived from conditions. Programs read those.\n"
    return _section("Phases", said, table(("Phase", "It means"), rows))


def _conditions() -> str:
    rows = [(f"`{kind}`", CONDITIONS[kind]) for kind in ConditionType]
    said = (
        "`status.conditions[]`. That of a stage is there when the run has the stage. The reason is "
        "a phase, the state of a stage, or one of [those below](#reasons).\n"
    )
    return _section("Conditions", said, table(("Type", "True when"), rows))


def _reasons() -> str:
    lines = [
        f"* {title}: " + ", ".join(f"[{word}](troubleshooting.md#{word.lower()})" for word in words)
        for title, words in _REASONS.items()
    ]
    said = (
        "Besides these, what the scheduler and the kubelet say of a pod that does not start is "
        "passed on in [their own words](troubleshooting.md#kubernetes-own-words).\n"
    )
    return _section("Reasons", said, "\n".join([*lines, ""]))


def _section(title: str, *parts: str) -> str:
    return "\n".join([f"## {title}\n", *parts])


if __name__ == "__main__":
    sys.stdout.write(page())

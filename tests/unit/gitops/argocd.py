"""The files of manifests/argocd: where they are, and those that are made from others.

`make argocd` writes what is made: the testdata, which is what the operator writes into status; the
variant of the health check that blocks nothing; and the patches of the ConfigMap argocd-cm, which
hold the scripts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from finetune_operator.vocabulary import ANNOTATION_CHECKPOINT, GROUP, KIND
from unit.gitops import phases

ROOT = Path(__file__).resolve().parents[3]
ARGOCD = ROOT / "manifests" / "argocd"
BLOCKING = ARGOCD / "resource_customizations" / GROUP / KIND
NON_BLOCKING = ARGOCD / "resource_customizations_non_blocking" / GROUP / KIND
ACTIONS = BLOCKING / "actions"
VARIANTS = {"argocd-cm.yaml": BLOCKING, "argocd-cm-non-blocking.yaml": NON_BLOCKING}
Json = dict[str, Any]

_HEADER = "# Generated from resource_customizations by `make argocd`. Do not edit.\n"
_OWNED: Json = {"f:spec": {"f:rerunToken": {}}}
# In which the health check that blocks nothing differs from the one that it is made from.
_NON_BLOCKING = {
    "a run that has not ended is Progressing, so a sync wave waits for its end.": (
        "a run that goes on or is suspended is Healthy, so no sync waits for it.\n"
        "-- Generated from resource_customizations by `make argocd`. Do not edit."
    ),
    '{status = "Suspended", message = status.message}': (
        '{status = "Healthy", message = status.message}'
    ),
    '{status = "Progressing", message = told(status)}': (
        '{status = "Healthy", message = told(status)}'
    ),
}
# Who put the token there: Argo CD's controller from Git by either way to apply, or its server on
# somebody's click.
_OWNERS = {
    "failed-token-applied": {"manager": "argocd-controller", "operation": "Apply"},
    "failed-token-updated": {"manager": "argocd-controller", "operation": "Update"},
    "failed-token-by-action": {"manager": "argocd-server", "operation": "Update"},
}


def read(path: Path) -> Any:
    """A YAML file's content."""
    return yaml.safe_load(path.read_text())


def generated() -> Iterator[tuple[Path, str]]:
    """Every file that is made, with what it must hold."""
    for name, found in phases.every():
        yield BLOCKING / "testdata" / f"{name}.yaml", _dump(found)
    yield from _action_data()
    blocking = (BLOCKING / "health.lua").read_text()
    non_blocking = without_blocking(blocking)
    yield NON_BLOCKING / "health.lua", non_blocking
    for name, health in zip(VARIANTS, (blocking, non_blocking), strict=True):
        yield ARGOCD / name, _HEADER + _dump({"data": _settings(health)})


def without_blocking(script: str) -> str:
    """The health check in which nothing but a failure keeps a sync from going on."""
    for said, instead in _NON_BLOCKING.items():
        if script.count(said) != 1:
            raise ValueError(f"health.lua must say once: {said}")
        script = script.replace(said, instead)
    return script


def _action_data() -> Iterator[tuple[Path, str]]:
    folder = ACTIONS / "testdata"
    failed = phases.named("failed")
    for name, owner in _OWNERS.items():
        entry = {**owner, "apiVersion": "finetune.dev/v1alpha1", "fieldsV1": _OWNED}
        metadata = {**failed["metadata"], "managedFields": [entry]}
        spec = {**failed["spec"], "rerunToken": "2"}
        yield folder / f"{name}.yaml", _dump({**failed, "metadata": metadata, "spec": spec})
    stopped = {**failed, "spec": {**failed["spec"], "suspend": True}}
    yield folder / "failed-suspended.yaml", _dump(stopped)
    for name, change in (
        ("training", {"suspend": True}),
        ("suspended", {"suspend": False}),
        ("failed", {"rerunToken": "retry-2026-01-31T12:00:00Z"}),
    ):
        before = phases.named(name)
        after = {**before, "spec": {**before["spec"], **change}}
        yield folder / f"{name}-output.yaml", _dump(after)
    training, tracked = phases.named("training"), {"argocd.argoproj.io/tracking-id": "runs"}
    asked = {ANNOTATION_CHECKPOINT: "2026-01-31T12:00:00Z"}
    yield folder / "training-checkpoint-output.yaml", _dump(_annotated(training, asked))
    yield folder / "training-annotated.yaml", _dump(_annotated(training, tracked))
    yield folder / "training-annotated-output.yaml", _dump(_annotated(training, tracked | asked))


def _annotated(found: Json, annotations: Json) -> Json:
    return {**found, "metadata": {**found["metadata"], "annotations": annotations}}


def _settings(health: str) -> dict[str, str]:
    """The keys of argocd-cm."""
    about = f"{GROUP}_{KIND}"
    actions = {
        "discovery.lua": (ACTIONS / "discovery.lua").read_text(),
        "definitions": [
            {"name": script.parent.name, "action.lua": script.read_text()}
            for script in sorted(ACTIONS.glob("*/action.lua"))
        ],
    }
    return {
        f"resource.customizations.health.{about}": health,
        f"resource.customizations.actions.{about}": _dump(actions),
        # As progress is written every few seconds; health is looked at all the same.
        f"resource.customizations.ignoreResourceUpdates.{about}": _dump(
            {"jsonPointers": ["/status"]}
        ),
    }


class _Readable(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Readable.add_representer(str, _text)


def _dump(content: Any) -> str:
    made: str = yaml.dump(content, Dumper=_Readable, sort_keys=False, width=100, allow_unicode=True)
    return made


if __name__ == "__main__":
    for path, text in generated():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

"""The CustomResourceDefinition of FineTuneJob, from the models: `make crd` writes it to crds/.

Printed, not written: where it lands is the Makefile's business. The schemas come from `structural`.
"""

from __future__ import annotations

import sys
from typing import Any

import yaml

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.schema import ApiModel
from finetune_operator.api.spec import Spec
from finetune_operator.api.status import Status
from finetune_operator.api.structural import Converter
from finetune_operator.vocabulary import GROUP, KIND, PLURAL, SHORT_NAME, SINGULAR, VERSION

_HEADER = """\
# Generated from operator/finetune_operator/api/ by `make crd`. Do not edit: change the models.
"""

_API_VERSION = (
    "Group and version of this representation. "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources"
)
_KIND = (
    "Kind of this object. "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"
)

# What the API server shows before the operator's first look. Without it kstatus, and so Flux, takes
# a run for done that nobody has seen; Flux's own kinds do the same.
UNSEEN = {"observedGeneration": -1}

_COLUMNS = (
    {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
    {"name": "Stage", "type": "string", "jsonPath": ".status.stage"},
    {"name": "Progress", "type": "string", "jsonPath": ".status.progress.display.percent"},
    {"name": "Step", "type": "string", "jsonPath": ".status.progress.display.step"},
    {"name": "Loss", "type": "string", "jsonPath": ".status.metrics.loss"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    {"name": "Message", "type": "string", "jsonPath": ".status.message", "priority": 1},
)


# What `--field-selector` takes: the API server filters.
_SELECTABLE = (".status.phase", ".spec.model.source")


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition as an object."""
    names = {
        "kind": KIND,
        "listKind": f"{KIND}List",
        "plural": PLURAL,
        "singular": SINGULAR,
        "shortNames": [SHORT_NAME],
        "categories": ["finetune"],
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": list(_COLUMNS),
        "selectableFields": [{"jsonPath": path} for path in _SELECTABLE],
        "schema": {"openAPIV3Schema": _root()},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def structural_schema(model: type[ApiModel], *, defaults: bool) -> dict[str, Any]:
    """The structural schema of one model; an error where it says what a CRD cannot."""
    schema = model.model_json_schema(by_alias=True)
    definitions = schema.pop("$defs", {})
    return Converter(definitions=definitions, defaults=defaults).convert(schema)


def _root() -> dict[str, Any]:
    return {
        "description": FineTuneJob.__doc__,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"description": _API_VERSION, "type": "string"},
            "kind": {"description": _KIND, "type": "string"},
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": structural_schema(Spec, defaults=True),
            "status": {**structural_schema(Status, defaults=False), "default": UNSEEN},
        },
        "x-kubernetes-validations": [rule.as_validation() for rule in FineTuneJob.cel],
    }


class _Plain(yaml.SafeDumper):
    """Block style without anchors: every place says what it holds."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def render() -> str:
    """The content of crds/finetunejobs.yaml: the same bytes for the same models."""
    body: str = yaml.dump(
        definition(), Dumper=_Plain, sort_keys=False, width=100, allow_unicode=True
    )
    return _HEADER + body


if __name__ == "__main__":
    sys.stdout.write(render())

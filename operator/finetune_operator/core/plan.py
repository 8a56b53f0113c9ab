"""What will run: spec → plan, with every default that depends on another field filled in.

The plan is what `run.json` tells the stages (docs/stage-contract.md), the order of the stages and
the image. How a stage is scheduled or mounted is not part of it; that is build/'s.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.schema import ApiModel
from finetune_operator.api.spec import (
    Artifact,
    Dataset,
    LossOn,
    Merge,
    Method,
    Model,
    Preference,
    PreferenceLoss,
    Spec,
    Task,
)
from finetune_operator.core.model import Plan, Settings
from finetune_operator.vocabulary import CONTRACT_VERSION, Stage

HASH_LENGTH = 12
# Common practice, PEFT's examples: the fewer the trained values, the higher the rate.
LEARNING_RATES = {
    "full": "2e-5",
    "adapter": "1e-4",  # Pfeiffer et al., 2020
    "lora": "2e-4",
    "pTuning": "1e-3",
    "ia3": "3e-3",
    "prefix": "1e-2",
    "prompt": "3e-2",
}
# Preferences move a model that can answer already: Zephyr's rates, of DPO with LoRA and in full.
LEARNING_RATES_PREFERENCE = {"lora": "5e-6", "full": "5e-7"}
# The papers' own.
BETAS = {
    PreferenceLoss.DPO: "0.1",
    PreferenceLoss.ORPO: "0.1",
    PreferenceLoss.SIMPO: "2",
    PreferenceLoss.KTO: "0.1",
}
GAMMA = "0.5"
# PEFT's word for every linear layer but the head.
ALL_LINEAR = "all-linear"
# Parts of run.json that no stage before this one reads; all others are read from `prepare` on.
FIRST_READER = {"merge": Stage.MERGE, "upload": Stage.UPLOAD}
# What tells plans apart, and is no setting.
NAMES = frozenset({"planHash", "rerunToken", "continues"})


def make_plan(resource: FineTuneJob, settings: Settings) -> Plan:
    """The plan of this spec: the same spec, token and image give the same hash."""
    return _named(_run(resource), resource.spec.trainer.image or settings.trainer_image)


def continued(pinned: Plan, resource: FineTuneJob, settings: Settings, since: Stage) -> Plan:
    """The plan of a run that keeps what the stages before `since` have made or are at: with the
    spec's present settings of `since` and what comes after it, and the pinned ones of all else.

    It names the plan before it, so it never is one that the run has had; the same pinned plan, spec
    and token give the same hash.
    """
    new = make_plan(resource, settings).run
    anew = {key for key, reader in FIRST_READER.items() if not is_before(reader, since)}
    kept = pinned.run.keys() - anew - NAMES
    run = {key: value for key, value in pinned.run.items() if key in kept}
    run |= {key: value for key, value in new.items() if key in anew or key == "rerunToken"}
    run["continues"] = {
        "plan": pinned.hash,
        "stages": {
            str(stage): hash_for(pinned, stage)
            for stage in pinned.stages
            if is_before(stage, since)
        },
    }
    return _named(run, pinned.trainer_image)


def hash_for(plan: Plan, stage: Stage) -> str:
    """The hash of the plan whose run.json this stage is given: an earlier one, if the plan leaves
    the stage as it was.
    """
    continues: Mapping[str, Any] = plan.run.get("continues", {})
    return str(continues.get("stages", {}).get(stage, plan.hash))


def is_before(stage: Stage, other: Stage) -> bool:
    """Whether this stage comes earlier in every run that has both."""
    order = list(Stage)
    return order.index(stage) < order.index(other)


def stages_of(run: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The order of stages that `run.json` asks for."""
    stages = [Stage.PREPARE, Stage.TRAIN]
    if "merge" in run:
        stages.append(Stage.MERGE)
    if "upload" in run:
        stages.append(Stage.UPLOAD)
    return tuple(stages)


def _named(run: Mapping[str, Any], image: str) -> Plan:
    plan_hash = _hash(run, image)
    return Plan(
        hash=plan_hash,
        run={**run, "planHash": plan_hash},
        stages=stages_of(run),
        trainer_image=image,
    )


def _run(resource: FineTuneJob) -> dict[str, Any]:
    spec = resource.spec
    run: dict[str, Any] = {
        "contractVersion": CONTRACT_VERSION,
        "name": resource.metadata.name,
        "namespace": resource.metadata.namespace,
        "task": str(spec.task),
        "model": _model(spec.model),
        **_data(spec),
        "method": _method(spec.method),
        "training": _training(spec),
        "resources": {
            "nodes": spec.resources.nodes,
            "gpusPerNode": spec.resources.gpus_per_node,
        },
        "parallelism": _json(spec.parallelism),
    }
    if spec.tracking:
        run["tracking"] = _json(spec.tracking)
    if merge := _merge(spec):
        run["merge"] = _json(merge)
    if spec.upload:
        run["upload"] = {
            "repository": spec.upload.repository,
            "branch": spec.upload.branch,
            "private": spec.upload.private,
            "artifacts": [str(artifact) for artifact in _artifacts(spec)],
        }
    if spec.rerun_token:
        # A finished run that is asked for again is another run, though nothing else differs:
        # with the same hash every stage would find its work done.
        run["rerunToken"] = spec.rerun_token
    return run


def _model(model: Model) -> dict[str, Any]:
    return {**_json(model, without={"token_secret_ref"}), **_revision(model)}


def _data(spec: Spec) -> dict[str, Any]:
    if spec.dataset is not None:
        return {"dataset": _dataset(spec.dataset)}
    return {"datasets": [_dataset(dataset) for dataset in spec.datasets or ()]}


def _dataset(dataset: Dataset) -> dict[str, Any]:
    loss = dataset.loss or (LossOn.ALL_TOKENS if dataset.format.text else LossOn.COMPLETIONS)
    values = {
        **_json(dataset, without={"token_secret_ref"}),
        **_revision(dataset),
        "loss": str(loss),
    }
    if (columns := dataset.format.preference) is not None:
        given = _json(columns)
        defaults = ("chosen", "rejected") if columns.completion is None else ("label",)
        values["format"] = {"preference": {**{name: name for name in defaults}, **given}}
    return values


def _revision(source: Model | Dataset) -> dict[str, str]:
    return {"revision": source.revision or "main"} if source.source.startswith("hf://") else {}


def _method(method: Method) -> dict[str, Any]:
    if method.lora is None:
        return _json(method)
    lora = method.lora
    return {
        "lora": {
            **_json(lora),
            "alpha": lora.alpha or 2 * lora.rank,
            "loraPlusRatio": lora.lora_plus_ratio or "1",
            "targetModules": lora.target_modules or [ALL_LINEAR],
            "modulesToSave": lora.modules_to_save or [],
        }
    }


def _training(spec: Spec) -> dict[str, Any]:
    training = spec.training
    length = {} if training.max_steps else {"epochs": training.epochs or 1}
    return {
        **_json(training),
        **length,
        "packing": _packs(spec) if training.packing is None else training.packing,
        "learningRate": training.learning_rate or _learning_rate(spec),
        "evaluateEverySteps": training.evaluate_every_steps or 0,
        **_preference(spec),
    }


def _packs(spec: Spec) -> bool:
    return spec.task in (Task.GENERATION, Task.PREFERENCE)


def _learning_rate(spec: Spec) -> str:
    rates = LEARNING_RATES_PREFERENCE if spec.task is Task.PREFERENCE else LEARNING_RATES
    return rates[next(iter(_json(spec.method)))]


def _preference(spec: Spec) -> dict[str, Any]:
    if spec.task is not Task.PREFERENCE:
        return {}
    preference = spec.training.preference or Preference()
    settings = {"loss": str(preference.loss), "beta": preference.beta or BETAS[preference.loss]}
    if preference.loss is PreferenceLoss.SIMPO:
        settings["gamma"] = preference.gamma or GAMMA
    if preference.loss is PreferenceLoss.KTO:
        settings["desirableWeight"] = preference.desirable_weight or "1"
        settings["undesirableWeight"] = preference.undesirable_weight or "1"
    return {"preference": settings}


def _artifacts(spec: Spec) -> list[Artifact]:
    if spec.upload is None:
        return []
    if spec.upload.artifacts:
        return spec.upload.artifacts
    if spec.method.full:
        return [Artifact.MERGED]
    if spec.method.lora or spec.method.ia3:
        return [Artifact.MERGED, Artifact.ADAPTER]
    return [Artifact.ADAPTER]


def _merge(spec: Spec) -> Merge | None:
    if spec.method.full:
        return None
    if spec.merge is None and Artifact.MERGED in _artifacts(spec):
        return Merge()
    return spec.merge


def _json(model: ApiModel, without: set[str] | None = None) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=without)


def _hash(run: Mapping[str, Any], image: str) -> str:
    canonical = json.dumps(
        {"run": run, "trainerImage": image},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:HASH_LENGTH]

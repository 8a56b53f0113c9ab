"""What will run, by the operator's own functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_cli.preview import preview
from finetune_cli.show.plan import view
from finetune_cli.view import Run
from finetune_operator.core.model import Settings
from finetune_operator.core.plan import make_plan
from unit.cli.examples import TRAINING, raw
from unit.cli.screens import text_of
from unit.operator.builders import resource

SAMPLES = sorted((Path(__file__).parents[3] / "manifests" / "samples").glob("*.yaml"))


def sample(name: str) -> dict[str, Any]:
    path = next(path for path in SAMPLES if path.stem == name)
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_every_sample_has_a_plan_that_fits_eighty_columns_or_folds(path: Path) -> None:
    shown = text_of(view(preview(sample(path.stem), "default"), None, everything=True))
    assert max(map(len, shown.splitlines())) <= 80
    assert f"{sample(path.stem)['metadata']['name']}-train-1" in shown


def test_the_jobs_are_those_of_the_operator() -> None:
    jobs = preview(sample("two-nodes"), "default").jobs
    assert [(job.name, job.pods) for job in jobs] == [
        ("llama-support-prepare-1", 1),
        ("llama-support-train-1", 2),
        ("llama-support-merge-1", 1),
        ("llama-support-upload-1", 1),
    ]
    assert jobs[1].asks == {"nvidia.com/gpu": "8", "cpu": "96", "memory": "512Gi"}
    assert jobs[0].secrets == ("hf-read",)  # of the model and of the data
    assert jobs[3].secrets == ("hf-write",)


def test_derived_settings_are_those_that_no_field_and_no_default_of_it_says() -> None:
    derived = preview(sample("gemma-math"), "default").derived
    assert derived["training.learningRate"] == "2e-4"
    assert derived["method.lora.alpha"] == "32"
    assert "training.seed" not in derived  # a default of the CRD
    assert "method.lora.rank" not in derived  # given


def test_what_is_made_besides_is_told() -> None:
    shown = text_of(view(preview(sample("two-nodes"), "default"), None, everything=False), 100)
    assert "PersistentVolumeClaim llama-support-workspace: 500Gi, ReadWriteMany, of shared" in shown
    assert "Service llama-support-train: the names of the training pods" in shown


def test_a_pinned_plan_is_shown_as_it_is_pinned() -> None:
    plan = make_plan(resource("gemma-math"), Settings(trainer_image="acme/trainer:1"))
    shown = text_of(view(preview(raw(), "demo", plan), None, everything=False))
    assert f"plan {plan.hash}" in shown
    assert "acme/trainer:1" in shown


def test_what_a_run_has_found_at_a_revision_is_told() -> None:
    resolved = {"modelCommit": "1a2b3c4d5e6f", "datasetCommit": "9f8e7d6c5b4a"}
    run = Run(raw({**TRAINING, "resolved": resolved}))
    shown = text_of(view(preview(raw(), "demo"), run, everything=False))
    assert "at main (commit 1a2b3c4d)\n" in shown
    assert "at main (commit 9f8e7d6c), format" in shown


def test_the_hash_is_not_told_where_the_image_is_not_known() -> None:
    assert preview(raw(), "demo").hash is None
    assert preview(raw(trainer={"image": "acme/t:1"}), "demo").hash is not None


def test_what_prepare_has_found_out_is_told() -> None:
    run = Run(
        raw(
            {
                **TRAINING,
                "resolved": {
                    **TRAINING["resolved"],
                    "totalSteps": 200,
                    "timeEstimate": "48 min on 3 NVIDIA H100",
                },
            }
        )
    )
    shown = text_of(view(preview(raw(), "demo"), run, everything=False))
    assert "200 steps" in shown
    assert "about 48 min on 3 NVIDIA H100, estimated by prepare" in shown
    assert "10Gi in each training process, estimated by prepare" in shown
    assert "20.8M of 2.6B weights are trained" in shown
    assert "21m30s left" in shown

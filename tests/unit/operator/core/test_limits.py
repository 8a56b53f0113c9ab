"""What a platform team forbids is refused before anything is made, in words that help."""

from dataclasses import replace
from typing import Any

import pytest

from finetune_operator.core.limits import full_name, refused
from finetune_operator.core.model import Platform
from finetune_operator.core.remedy import CORRECT
from finetune_operator.vocabulary import Phase
from unit.operator.builders import SETTINGS, resource
from unit.operator.world import World

EIGHT = Platform(max_gpus=8)
OURS = Platform(image_registries=("registry.example.com/ml", "ghcr.io"))
LIMITED = replace(SETTINGS, platform=EIGHT)
TOO_MANY: dict[str, Any] = {"resources": {"nodes": 2, "gpusPerNode": 8}}


def message(platform: Platform, **changes: Any) -> str:
    refusal = refused(resource(**changes).spec, platform)
    return refusal.message if refusal else ""


@pytest.mark.parametrize(
    ("platform", "changes"),
    [
        (Platform(), {"resources": {"nodes": 512, "gpusPerNode": 64}, "trainer": {"image": "x"}}),
        (EIGHT, {"resources": {"nodes": 2, "gpusPerNode": 4}}),
        (Platform(max_gpus=0), {}),
        (OURS, {}),
        (OURS, {"trainer": {"image": "registry.example.com/ml/trainer:1"}}),
        (OURS, {"trainer": {"image": "ghcr.io/acme/trainer@sha256:0f"}}),
        (Platform(image_registries=("docker.io/acme/",)), {"trainer": {"image": "acme/t:1"}}),
        (Platform(image_registries=("docker.io",)), {"trainer": {"image": "trainer"}}),
    ],
)
def test_what_is_within_the_limits_starts(platform: Platform, changes: dict[str, Any]) -> None:
    assert message(platform, **changes) == ""


def test_too_many_gpus_are_counted_over_all_nodes() -> None:
    assert message(EIGHT, **TOO_MANY) == (
        "spec.resources asks for 16 GPUs (2 nodes with 8 each), and here a run may have at most 8: "
        "lower nodes or gpusPerNode, or have the operator's FINETUNE_MAX_GPUS raised."
    )
    assert "asks for 9 GPUs, and" in message(EIGHT, resources={"gpusPerNode": 9})


@pytest.mark.parametrize(
    "image",
    [
        "registry.example.com/ml-evil/trainer:1",
        "registry.example.com/trainer:1",
        "registry.example.com.evil.com/ml/trainer:1",
        "evil.com/ghcr.io/trainer:1",
        "ghcr.io:443/trainer",
        "ghcr.io",
        "trainer:1",
    ],
)
def test_an_image_from_elsewhere_is_refused(image: str) -> None:
    assert message(OURS, trainer={"image": image}) == (
        f"spec.trainer.image is {image}, and here images may come from registry.example.com/ml, "
        "ghcr.io only: name one from there, remove image to use the operator's, or have the "
        "registry added to the operator's FINETUNE_IMAGE_REGISTRIES."
    )


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("trainer:1", "docker.io/library/trainer:1"),
        ("acme/trainer", "docker.io/acme/trainer"),
        ("localhost/trainer", "localhost/trainer"),
        ("host:5000/trainer", "host:5000/trainer"),
    ],
)
def test_a_short_name_is_that_of_docker_hub(image: str, full: str) -> None:
    assert full_name(image) == full


def test_everything_that_is_refused_is_told_at_once() -> None:
    both = replace(EIGHT, image_registries=("ghcr.io",))
    said = message(both, **TOO_MANY, trainer={"image": "x"})
    assert "spec.resources" in said
    assert "spec.trainer.image" in said


def test_a_refused_run_makes_nothing_and_starts_once_it_is_corrected() -> None:
    world = World(LIMITED, **TOO_MANY)
    world.settle()
    assert (world.status.phase, world.status.plan_hash) == (Phase.FAILED, None)
    assert world.condition("Failed")[1] == "NotAllowed"
    assert (world.status.message or "").endswith(CORRECT)
    assert (world.jobs, world.plans, world.claims) == ({}, {}, 0)
    world.edit(resources={"nodes": 1, "gpusPerNode": 8}, rerunToken="fewer")
    world.settle()
    assert world.only_live().name == "demo-prepare-1"


def test_a_limit_that_comes_later_leaves_what_has_started_alone() -> None:
    world = World(**TOO_MANY)
    world.settle()
    world.succeed()
    world.settings = LIMITED
    world.settle()
    assert world.only_live().name == "demo-train-1"
    assert world.status.phase is Phase.TRAINING


def test_starting_over_is_a_start() -> None:
    world = World(**TOO_MANY)
    world.settle()
    world.settings = LIMITED
    world.edit(training={"seed": 7}, rerunToken="again")
    world.settle()
    assert world.status.phase is Phase.FAILED
    assert world.condition("Failed")[1] == "NotAllowed"
    world.gone()
    assert world.live() == []

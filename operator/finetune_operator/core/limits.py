"""Does a run keep to what the platform team allows? Looked at when a plan is made.

A run that has started keeps what it was allowed then: no upgrade of the operator ends it. What a
refusal leads to is refusal.py's.
"""

from __future__ import annotations

from collections.abc import Iterator

from finetune_operator.api.spec import Resources, Spec
from finetune_operator.core.model import Platform, Refusal
from finetune_operator.vocabulary import RefusalReason

DEFAULT_REGISTRY, DEFAULT_PATH = "docker.io", "library"


def refused(spec: Spec, platform: Platform) -> Refusal | None:
    """Why this run may not start, all of it in one message; None if it may."""
    reasons = list(_reasons(spec, platform))
    return Refusal(RefusalReason.NOT_ALLOWED, " ".join(reasons), final=True) if reasons else None


def _reasons(spec: Spec, platform: Platform) -> Iterator[str]:
    gpus, most = spec.resources.nodes * spec.resources.gpus_per_node, platform.max_gpus
    if most is not None and gpus > most:
        yield (
            f"spec.resources asks for {_counted(gpus, spec.resources)}, and here a run may have at "
            f"most {most}: lower nodes or gpusPerNode, or have the operator's FINETUNE_MAX_GPUS "
            "raised."
        )
    image, registries = spec.trainer.image, platform.image_registries
    if image is not None and registries and not any(_is_from(image, one) for one in registries):
        yield (
            f"spec.trainer.image is {image}, and here images may come from "
            f"{', '.join(registries)} only: name one from there, remove image to use the "
            "operator's, or have the registry added to the operator's FINETUNE_IMAGE_REGISTRIES."
        )


def _counted(gpus: int, resources: Resources) -> str:
    if resources.nodes == 1:
        return f"{gpus} GPUs"
    return f"{gpus} GPUs ({resources.nodes} nodes with {resources.gpus_per_node} each)"


def _is_from(image: str, registry: str) -> bool:
    """By whole parts of the path: acme does not allow acme-evil."""
    return full_name(image).startswith(registry.rstrip("/") + "/")


def full_name(image: str) -> str:
    """The image with its registry's host, as container runtimes complete it."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return image
    return f"{DEFAULT_REGISTRY}/{image}" if slash else f"{DEFAULT_REGISTRY}/{DEFAULT_PATH}/{image}"

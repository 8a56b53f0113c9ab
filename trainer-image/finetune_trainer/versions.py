"""Which packages made the model, and their versions."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("torch", "transformers", "peft", "safetensors", "datasets", "huggingface_hub")


def versions() -> dict[str, str]:
    """By package; one that is not installed is left out."""
    found: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

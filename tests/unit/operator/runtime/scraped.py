"""A scrape, read by Prometheus' own parser."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

Series = tuple[str, tuple[tuple[str, str], ...]]


def series(text: str) -> dict[Series, float]:
    """Values by name and labels, the labels in order of their names."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(registry: CollectorRegistry) -> dict[Series, float]:
    """What a scrape of this registry gives."""
    return series(generate_latest(registry).decode())


def of(found: dict[Series, float], name: str) -> dict[tuple[str, ...], float]:
    """The series of one metric, by the values of their labels."""
    return {
        tuple(value for _, value in labels): number
        for (metric, labels), number in found.items()
        if metric == name
    }

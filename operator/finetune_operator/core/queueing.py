"""Kueue: which labels of a FineTuneJob its Jobs take over. When a Job starts is Kueue's matter.

Kueue queues the Jobs, so the FineTuneJob itself is never changed by it. No other label is ever
copied: those by which Argo CD, Flux or Helm track a resource would have its Jobs pruned.
"""

from __future__ import annotations

from collections.abc import Mapping

QUEUE = "kueue.x-k8s.io/queue-name"
PRIORITY = "kueue.x-k8s.io/priority-class"


def queue_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Queue and priority of the run; none if it names no queue."""
    if not labels.get(QUEUE):
        return {}
    return {name: labels[name] for name in (QUEUE, PRIORITY) if labels.get(name)}

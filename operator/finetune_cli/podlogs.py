"""Pods of a run → whose log that is, in which order, under which prefix. Pure.

The log itself is fetched by `cluster`, and followed by the command `logs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from finetune_cli.view import dig
from finetune_operator.vocabulary import LABEL_ATTEMPT, LABEL_STAGE, Stage

_INDEX = "batch.kubernetes.io/job-completion-index"
_ORDER = {str(stage): number for number, stage in enumerate(Stage)}


@dataclass(frozen=True, slots=True)
class PodLog:
    """A pod of a run: its stage, attempt and, of several nodes, its rank among them."""

    pod: str
    stage: str
    attempt: int
    rank: int | None
    has_log: bool
    ended: bool
    """Whether the log is complete."""

    @property
    def prefix(self) -> str:
        """As in `train-2/1`: the second attempt, the pod of node 1."""
        rank = "" if self.rank is None else f"/{self.rank}"
        return f"{self.stage}-{self.attempt}{rank}"

    @property
    def key(self) -> tuple[int, int, int]:
        """The order in which a run has them."""
        return (self.attempt_order, self.attempt, self.rank or 0)

    @property
    def attempt_order(self) -> int:
        return _ORDER.get(self.stage, len(_ORDER))


def pod_logs(
    pods: Iterable[Mapping[str, Any]],
    *,
    stage: str | None = None,
    attempt: int | None = None,
    rank: int | None = None,
) -> list[PodLog]:
    """The pods whose log is wanted, in the order of stages, attempts and ranks."""
    found = sorted((_pod_log(pod) for pod in pods), key=lambda log: log.key)
    return [
        log
        for log in found
        if stage in (None, log.stage)
        and attempt in (None, log.attempt)
        and (rank is None or rank == (log.rank or 0))
    ]


def training_pods(pods: Iterable[Mapping[str, Any]]) -> list[str]:
    """The pods that log the loss, attempt by attempt: those of rank 0."""
    wanted = pod_logs(pods, stage=str(Stage.TRAIN), rank=0)
    return [log.pod for log in wanted if log.has_log]


def _pod_log(pod: Mapping[str, Any]) -> PodLog:
    labels = dig(pod, "metadata.labels", {})
    index = dig(pod, "metadata.annotations", {}).get(_INDEX, labels.get(_INDEX))
    phase = dig(pod, "status.phase", "Pending")
    statuses = dig(pod, "status.containerStatuses", [])
    started = any("running" in s["state"] or "terminated" in s["state"] for s in statuses)
    return PodLog(
        pod=str(dig(pod, "metadata.name")),
        stage=str(labels.get(LABEL_STAGE, "")),
        attempt=int(labels.get(LABEL_ATTEMPT) or 0),
        rank=int(index) if index is not None else None,
        has_log=started,
        ended=phase in ("Succeeded", "Failed"),
    )

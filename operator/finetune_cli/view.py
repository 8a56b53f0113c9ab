"""A FineTuneJob as it is shown: typed, and tolerant, so that a plug-in reads what a newer operator
wrote. Pure; nothing is derived that the operator has said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from finetune_operator.vocabulary import Phase, StageState

Json = Mapping[str, Any]
# Reasons of Ready besides the phase that are the way of things. Written out: the operator's models,
# where they stand, take a quarter of a second to import.
_QUIET = frozenset({"PodStarting", "Stopping"})
FINAL = frozenset({str(Phase.SUCCEEDED), str(Phase.FAILED)})
UNSEEN = (
    "No operator has seen it yet: is one running? `kubectl get pods -A -l "
    "app.kubernetes.io/name=finetune-operator` tells."
)


def dig(value: Any, path: str, default: Any = None) -> Any:
    """The member at a dotted path, else the default."""
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return default
        value = value[key]
    return value


def moment(text: Any) -> datetime | None:
    """A time of the API; None when there is none."""
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class StageView:
    """One line of the stages."""

    name: str
    state: str
    attempt: int
    message: str
    started: datetime | None
    ended: datetime | None

    @property
    def runs(self) -> bool:
        return self.state == StageState.RUNNING


@dataclass(frozen=True, slots=True)
class Run:
    """One FineTuneJob, as the API server gave it."""

    raw: Json

    @property
    def name(self) -> str:
        return str(dig(self.raw, "metadata.name", ""))

    @property
    def namespace(self) -> str:
        return str(dig(self.raw, "metadata.namespace", "default"))

    @property
    def status(self) -> Json:
        return dig(self.raw, "status") or {}

    @property
    def phase(self) -> str:
        return str(self.status.get("phase") or Phase.PENDING)

    @property
    def is_over(self) -> bool:
        """It has ended and nothing newer is asked for: a changed rerunToken or spec is not yet
        what this status is about.
        """
        return self.phase in FINAL and self.is_seen

    @property
    def is_seen(self) -> bool:
        """The status is about the spec as it is now."""
        generation = dig(self.raw, "metadata.generation", 1)
        return bool(self.status.get("observedGeneration", 0) >= generation)

    @property
    def message(self) -> str:
        return str(self.status.get("message") or ("" if self.status else UNSEEN))

    @property
    def waits(self) -> bool:
        """Something that a person may have to see to holds it up."""
        conditions = self.status.get("conditions", [])
        reason = next((str(c.get("reason")) for c in conditions if c["type"] == "Ready"), "")
        quiet = {"", self.phase, *_QUIET}
        return self.phase not in FINAL and reason not in quiet

    @property
    def created(self) -> datetime | None:
        return moment(dig(self.raw, "metadata.creationTimestamp"))

    @property
    def started(self) -> datetime | None:
        return moment(self.status.get("startTime"))

    @property
    def ended(self) -> datetime | None:
        return moment(self.status.get("completionTime"))

    @property
    def stages(self) -> list[StageView]:
        return [
            StageView(
                name=str(entry.get("name")),
                state=str(entry.get("state")),
                attempt=int(entry.get("attempt") or 0),
                message=str(entry.get("message") or ""),
                started=moment(entry.get("startTime")),
                ended=moment(entry.get("completionTime")),
            )
            for entry in self.status.get("stages", [])
        ]

    @property
    def metrics(self) -> Json:
        return self.status.get("metrics") or {}

    @property
    def model(self) -> str:
        return shown_source(dig(self.raw, "spec.model.source"))

    @property
    def data(self) -> str:
        sources = [dig(self.raw, "spec.dataset.source")]
        if sources == [None]:
            sources = [item.get("source") for item in dig(self.raw, "spec.datasets", [])]
        return ", ".join(shown_source(source) for source in sources)

    @property
    def method(self) -> str:
        return method_in_words(dig(self.raw, "spec.method", {}))

    @property
    def gpus(self) -> int:
        nodes = dig(self.raw, "spec.resources.nodes", 1)
        return int(nodes) * int(dig(self.raw, "spec.resources.gpusPerNode", 0))


def shown_source(source: Any) -> str:
    """A source as people say it: a repository of the Hub by its name alone."""
    return str(source or "").removeprefix("hf://")


_METHODS = {"lora": "LoRA", "ia3": "IA3", "pTuning": "P-tuning"}


def method_in_words(method: Json) -> str:
    """`spec.method` in a few words: `LoRA, rank 16, NF4`."""
    for name, settings in method.items():
        words = [_METHODS.get(name, name)]
        if "rank" in (settings or {}):
            words.append(f"rank {settings['rank']}")
        if (settings or {}).get("quantization"):
            words.append(str(settings["quantization"]))
        return ", ".join(words)
    return ""

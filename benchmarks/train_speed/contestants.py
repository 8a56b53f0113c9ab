"""Who takes part, and how each is started. Settings of a peer are in its runner."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from importlib import import_module

from train_speed.environments import OURS

GENERATION, PREFERENCE = "generation", "preference"


@dataclass(frozen=True, slots=True)
class Contestant:
    """A trainer.

    `kinds` are those of the workloads it can train. `warm_up` steps are not timed: where something
    compiles, the second step still does.
    """

    name: str
    environment: str
    runner: str
    kinds: frozenset[str]
    warm_up: int = 1
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        return self.environment == OURS


_UNSLOTH = {"UNSLOTH_FORCE_CPU": "1", "UNSLOTH_DISABLE_STATISTICS": "1"}
_BOTH = frozenset({GENERATION, PREFERENCE})

CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant(OURS, OURS, "run_ours.py", _BOTH, warm_up=2),
        Contestant("transformers", "huggingface", "run_transformers.py", frozenset({GENERATION})),
        Contestant("trl", "huggingface", "run_trl.py", _BOTH),
        Contestant("unsloth", "unsloth", "run_unsloth.py", _BOTH, variables=_UNSLOTH),
        Contestant(
            "unsloth-compile",
            "unsloth",
            "run_unsloth.py",
            _BOTH,
            warm_up=2,
            variables={**_UNSLOTH, "UNSLOTH_CPU_COMPILE": "1"},
        ),
    )
}


def techniques() -> tuple[str, ...]:
    """What our trainer can leave out, by the names that FINETUNE_SPEED_WITHOUT takes."""
    try:
        found = import_module("finetune_trainer.train.speed.techniques")
    except ModuleNotFoundError:
        return ()
    return tuple(found.TECHNIQUES)


def ablations() -> list[list[Contestant]]:
    """Races of two: ours, and ours without one technique; all at once would not fit into memory."""
    ours = CONTESTANTS[OURS]
    return [
        [
            ours,
            dataclasses.replace(
                ours, name=f"without {name}", variables={"FINETUNE_SPEED_WITHOUT": name}
            ),
        ]
        for name in techniques()
    ]


def taking_part(names: list[str], *, gpu: bool) -> list[Contestant]:
    """The contestants by name; with a `gpu`, without what is for the CPU alone."""
    chosen = [CONTESTANTS[name] for name in names]
    if not gpu:
        return chosen
    return [
        dataclasses.replace(
            each,
            variables={key: value for key, value in each.variables.items() if "CPU" not in key},
        )
        for each in chosen
        if "UNSLOTH_CPU_COMPILE" not in each.variables
    ]

"""One workload in one format: everybody starts, then takes turns, round after round.

All processes stay alive between turns and wait, so a drift of the machine meets everyone alike and
nobody loads or compiles twice. Whoever is far behind the best peer leaves early: more rounds would
not change which peer is the best.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from train_speed.contestants import Contestant
from train_speed.entry import Entry, peer_task, start_ours, start_peer, threads_here
from train_speed.environments import InstallError, python_of
from train_speed.parity import Reference, reference
from train_speed.roofline import Shape, gemm_rate, needed
from train_speed.session import ContestantError, Session
from train_speed.steps import RANK, Made
from train_speed.workloads import Workload

# A peer this much slower than the best one leaves after the first round.
FAR_BEHIND = 1.5
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says about a race."""

    rounds: int
    steps: int
    keep_slow: bool
    python: dict[str, str]


@dataclass
class Race:
    """A race and what came of it. `gemm_rate` is in FLOP/s, the median over the rounds; `absent`
    are those who cannot train such a workload.
    """

    workload: Workload
    dtype: str
    made: Made
    shape: Shape
    entries: list[Entry] = field(default_factory=list)
    reference: Reference | None = None
    reference_error: str | None = None
    gemm_rate: float = 0.0
    absent: list[str] = field(default_factory=list)

    def tokens_per_second(self, entry: Entry) -> float:
        """Median over all timed steps of the data set's tokens per second."""
        return self._median(entry, lambda step: float(self.made.tokens[step]))

    def supervised_per_second(self, entry: Entry) -> float:
        """The same of supervised tokens."""
        return self._median(entry, lambda step: float(self.made.supervised[step]))

    def roofline_share(self, entry: Entry) -> float:
        """FLOPs needed, by time, by the measured rate (roofline.py)."""
        preference = self.workload.kind == "preference"
        return (
            self._median(
                entry,
                lambda step: needed(
                    self.shape,
                    self.made.lengths[step],
                    self.made.supervised[step],
                    rank=RANK,
                    preference=preference,
                ),
            )
            / self.gemm_rate
        )

    def round_rates(self, entry: Entry) -> list[float]:
        """Tokens per second of each round, the median of its steps."""
        return [
            statistics.median(self.made.tokens[step.number - 1] / step.seconds for step in steps)
            for steps in entry.rounds
        ]

    def best_peer(self) -> Entry | None:
        """The peer with the highest throughput, if any has one."""
        timed = [entry for entry in self.entries if entry.rounds and not entry.is_ours]
        return max(timed, key=self.tokens_per_second, default=None)

    def _median(self, entry: Entry, work: Callable[[int], float]) -> float:
        return statistics.median(
            work(step.number - 1) / step.seconds for steps in entry.rounds for step in steps
        )


def run(
    workload: Workload,
    dtype: str,
    made: Made,
    contestants: list[Contestant],
    settings: Settings,
) -> Race:
    """Race the contestants; one that fails is in the result with its error."""
    able = [contestant for contestant in contestants if workload.kind in contestant.kinds]
    absent = [contestant.name for contestant in contestants if contestant not in able]
    race = Race(workload, dtype, made, Shape.of(made.model), absent=absent)
    threads = threads_here()
    rates = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        try:
            race.reference = reference(
                workload, made, settings.python, _fresh(directory, "reference"), threads
            )
        except (ContestantError, InstallError) as error:
            race.reference_error = str(error)
        adapter = race.reference.adapter if race.reference else directory / "adapter.safetensors"

        def start(contestant: Contestant, place: Path) -> Session:
            python = python_of(contestant.environment, settings.python)
            if contestant.is_ours:
                return start_ours(contestant, python, made, dtype, place, threads)
            # One more than it will take: the training must not end before the race does.
            steps = contestant.warm_up + settings.rounds * settings.steps + 1
            task = peer_task(workload, made, dtype, adapter, threads, steps)
            return start_peer(contestant, python, task, place)

        with _all_started(race, able, directory, start) as sessions:
            for number in range(1, settings.rounds + 1):
                rates.append(gemm_rate(race.shape, DTYPES[dtype], workload.sequence_length))
                running = [entry for entry in race.entries if entry.name in sessions]
                first = number % max(1, len(running))
                for entry in running[first:] + running[:first]:
                    _turn(entry, sessions, settings.steps)
                _report_round(race, number, settings.rounds)
                if not settings.keep_slow:
                    _dismiss(race, sessions)
    race.gemm_rate = statistics.median(rates)
    return race


@contextmanager
def _all_started(
    race: Race,
    contestants: list[Contestant],
    directory: Path,
    start: Callable[[Contestant, Path], Session],
) -> Iterator[dict[str, Session]]:
    """Every contestant's process after its warm-up, by name; all are ended in the end."""
    sessions: dict[str, Session] = {}
    try:
        for contestant in contestants:
            place = _fresh(directory, contestant.name)
            entry = Entry(contestant.name, contestant.is_ours, place)
            race.entries.append(entry)
            try:
                sessions[entry.name] = session = start(contestant, place)
                session.go(contestant.warm_up)
            except (ContestantError, InstallError) as error:
                _fail(entry, sessions, str(error))
                continue
            entry.see(session)
            print(f"  {entry.name}: first step after {entry.first_step_seconds:.1f} s", flush=True)
        yield sessions
    finally:
        for entry in race.entries:
            if entry.name in sessions:
                _leave(entry, sessions)


def _turn(entry: Entry, sessions: dict[str, Session], steps: int) -> None:
    try:
        entry.rounds.append(sessions[entry.name].go(steps))
    except ContestantError as error:
        _fail(entry, sessions, str(error))


def _fail(entry: Entry, sessions: dict[str, Session], error: str) -> None:
    entry.error = error
    print(f"  {entry.name}: {error}", flush=True)
    session = sessions.pop(entry.name, None)
    if session is not None:
        session.close()


def _leave(entry: Entry, sessions: dict[str, Session]) -> None:
    session = sessions.pop(entry.name)
    session.close()
    entry.see(session)


def _dismiss(race: Race, sessions: dict[str, Session]) -> None:
    best = race.best_peer()
    if best is None:
        return
    limit = race.tokens_per_second(best) / FAR_BEHIND
    for entry in race.entries:
        if entry.name in sessions and not entry.is_ours and race.tokens_per_second(entry) < limit:
            _leave(entry, sessions)


def _report_round(race: Race, number: int, rounds: int) -> None:
    rates = [
        f"{entry.name} {race.round_rates(entry)[number - 1]:.0f}"
        for entry in race.entries
        if len(entry.rounds) >= number
    ]
    print(f"  round {number}/{rounds}, tokens/s: {', '.join(rates)}", flush=True)


def _fresh(directory: Path, name: str) -> Path:
    place = directory / name
    place.mkdir()
    return place

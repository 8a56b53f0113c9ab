"""The tables, and the two figures that sum them up."""

from __future__ import annotations

import math
from collections.abc import Sequence

from train_speed.entry import Entry
from train_speed.parity import deviation
from train_speed.race import Race

HEADER = (
    f"{'contestant':<24}{'tok/s':>8}{'superv.':>9}{'roofline':>10}{'peak GB':>9}{'1st step':>10}"
    f"{'steps':>7}  {'losses of the first steps':<27}{'off by':>9}"
)


def table(race: Race) -> list[str]:
    """The lines about one race."""
    lines = [
        f"{race.workload.title} — {race.dtype}; {_step_size(race)}; "
        f"matrix products {race.gemm_rate / 1e9:.0f} GFLOP/s",
        HEADER,
        *(_row(race, entry) for entry in race.entries),
        *(f"{name:<24}n/a" for name in race.absent),
    ]
    if race.reference is not None:
        losses = _losses(dict(enumerate(race.reference.losses, 1)), len(race.reference.losses))
        lines.append(f"{'reference in float32':<77}  {losses}")
    else:
        lines.append(f"no reference: {race.reference_error}")
    lines.append(_verdict(race))
    return lines


def _step_size(race: Race) -> str:
    taken = max((entry.rounds[-1][-1].number for entry in race.entries if entry.rounds), default=1)
    tokens = sum(race.made.tokens[:taken]) / taken
    supervised = sum(race.made.supervised[:taken]) / taken
    return f"{tokens:.0f} tokens a step, {supervised / tokens:.0%} supervised"


def _row(race: Race, entry: Entry) -> str:
    if not entry.rounds:
        return f"{entry.name:<24}failed: {entry.error}"
    first = f"{entry.first_step_seconds:.1f} s" if entry.first_step_seconds else ""
    line = (
        f"{entry.name:<24}{race.tokens_per_second(entry):>8.0f}"
        f"{race.supervised_per_second(entry):>9.0f}{race.roofline_share(entry):>10.2f}"
        f"{entry.peak_bytes / 1e9:>9.1f}{first:>10}{sum(map(len, entry.rounds)):>7}"
    )
    if race.reference is None:
        return line
    shown = _losses(entry.losses, len(race.reference.losses))
    return f"{line}  {shown:<27}{_off(race, entry):>9}" + (
        f"  then failed: {entry.error}" if entry.error else ""
    )


def _off(race: Race, entry: Entry) -> str:
    off = deviation(entry.losses, race.reference.losses) if race.reference else None
    return "?" if off is None else f"{off:.1e}"


def _losses(losses: dict[int, float], count: int) -> str:
    return " ".join(
        f"{losses[step]:.4f}" if step in losses else "?" for step in range(1, count + 1)
    )


def ratio(race: Race) -> float | None:
    """Our throughput by the best peer's; 0 if ours failed; None where either did not take part."""
    ours = next((entry for entry in race.entries if entry.is_ours), None)
    best = race.best_peer()
    if ours is None or best is None:
        return None
    if not ours.rounds or ours.error:
        return 0.0
    return race.tokens_per_second(ours) / race.tokens_per_second(best)


def _verdict(race: Race) -> str:
    found, best = ratio(race), race.best_peer()
    if found is None or best is None:
        return "no ratio: " + ("no peer" if best is None else "ours did not take part")
    ours = next(entry for entry in race.entries if entry.is_ours)
    each = [
        mine / theirs
        for mine, theirs in zip(race.round_rates(ours), race.round_rates(best), strict=False)
    ]
    spread = f", by round {min(each):.2f} to {max(each):.2f}" if each else ""
    return f"ours is {found:.2f} x the best peer, {best.name}{spread}"


def ablation(races: Sequence[Race]) -> list[str]:
    """What each technique gives, a line for each race of ours against ours without one."""
    lines = [f"{'':<40}{'with':>8}{'without':>9}{'change':>8}{'off by':>9}{'without':>9}"]
    for race in races:
        whole, part = race.entries
        name = f"{race.workload.name}, {race.dtype}, {part.name}"
        if not whole.rounds or not part.rounds:
            lines.append(f"{name:<40}failed: {whole.error or part.error}")
            continue
        full, less = race.tokens_per_second(whole), race.tokens_per_second(part)
        lines.append(
            f"{name:<40}{full:>8.0f}{less:>9.0f}{less / full - 1:>+8.0%}"
            f"{_off(race, whole):>9}{_off(race, part):>9}"
        )
    return lines


def summary(races: Sequence[Race], unprepared: int = 0) -> list[str]:
    """The last two lines; workloads that our `prepare` failed on, `unprepared`, count as 0."""
    ratios = [0.0] * unprepared
    ratios += [found for race in races if (found := ratio(race)) is not None]
    if not ratios:
        return ["ratio_vs_best_peer=n/a", "geomean_vs_best_peer=n/a"]
    geomean = 0.0 if min(ratios) == 0 else math.exp(sum(map(math.log, ratios)) / len(ratios))
    return [f"ratio_vs_best_peer={min(ratios):.3f}", f"geomean_vs_best_peer={geomean:.3f}"]

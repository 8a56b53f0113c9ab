"""`python -m train_speed`: which workloads, formats and contestants, and the tables in the end."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

from train_speed import report
from train_speed.contestants import CONTESTANTS, Contestant, ablations, taking_part
from train_speed.entry import threads_here
from train_speed.environments import InstallError, python_of
from train_speed.race import Race, Settings, run
from train_speed.steps import PreparationError, make
from train_speed.workloads import WORKLOADS, Workload

NATIVE_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
# Shorter sequences would cut the documents of some workloads.
QUICK_TOKENS = 640


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="train_speed", description=__doc__)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=("bfloat16", "float32"),
        help="default: bfloat16 where it is native, and float32 on the first workload",
    )
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=1, help="timed steps of a turn")
    parser.add_argument("--tokens", type=int, help="about so many a step, instead of 4k (2k)")
    parser.add_argument("--keep-slow", action="store_true", help="all rounds for slow peers, too")
    parser.add_argument(
        "--ablation", action="store_true", help="ours alone, without each technique in turn"
    )
    parser.add_argument("--quick", action="store_true", help="one round with tiny steps")
    parser.add_argument(
        "--python",
        nargs="+",
        default=[],
        metavar="NAME=PATH",
        help="interpreters to use instead of installing the environment NAME",
    )
    return parser.parse_args()


def chosen(arguments: argparse.Namespace) -> list[tuple[Workload, str]]:
    """The races to run: workload and format."""
    workloads = [WORKLOADS[name] for name in arguments.workloads]
    tokens = arguments.tokens or (QUICK_TOKENS if arguments.quick else None)
    if tokens:
        workloads = [each.with_step_of(tokens) for each in workloads]
    native = "bfloat16" if has_native_bfloat16() else "float32"
    races = [(workload, dtype) for workload in workloads for dtype in arguments.dtypes or [native]]
    if not arguments.dtypes and not arguments.quick and native == "bfloat16":
        races.insert(1, (workloads[0], "float32"))
    return races


def has_native_bfloat16() -> bool:
    """Whether matrices of bfloat16 are multiplied in hardware."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(NATIVE_BFLOAT16 & set(Path("/proc/cpuinfo").read_text().split()))


def install(contestants: list[Contestant], python: dict[str, str]) -> None:
    """All environments, before anything is timed; one that cannot be had is told again later."""
    for name in dict.fromkeys(contestant.environment for contestant in contestants):
        try:
            python_of(name, python)
        except InstallError as error:
            print(f"==> {error}", flush=True)


def main() -> int:
    """Race, and print."""
    arguments = parsed()
    # As for Ctrl-C: contestants are ended and their files removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    python = dict(entry.split("=", 1) for entry in arguments.python)
    settings = Settings(
        rounds=1 if arguments.quick else arguments.rounds,
        steps=arguments.steps,
        keep_slow=arguments.keep_slow,
        python=python,
    )
    if arguments.ablation:
        fields = ablations()
        if not fields:
            print("--ablation: this trainer has no technique that can be left out")
            return 2
    else:
        fields = [taking_part(arguments.contestants, gpu=torch.cuda.is_available())]
    races = chosen(arguments)
    minutes = sum(_minutes(workload, dtype, fields, settings) for workload, dtype in races)
    print(
        f"==> {len(races) * len(fields)} races on {threads_here()} CPUs: "
        f"about {minutes:.0f} min once everything is in the cache",
        flush=True,
    )
    install([contestant for field in fields for contestant in field], python)
    done: list[Race] = []
    unprepared = 0
    for workload, dtype in races:
        print(f"==> {workload.title}, {dtype}", flush=True)
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            try:
                made = make(workload, Path(directory))
            except PreparationError as error:
                unprepared += 1
                print(f"  our own prepare stage failed: {error}", flush=True)
                continue
            for field in fields:
                done.append(run(workload, dtype, made, field, settings))
                print("\n".join(["", *report.table(done[-1]), ""]), flush=True)
    print(f"All of it in {(time.monotonic() - started) / 60:.0f} min.\n")
    if arguments.ablation:
        print("\n".join(report.ablation(done)))
        return 0
    for race in done:
        print("\n".join([*report.table(race), ""]))
    print("\n".join(report.summary(done, unprepared)))
    return 0


def _minutes(
    workload: Workload, dtype: str, fields: list[list[Contestant]], settings: Settings
) -> float:
    # On two cores with AVX-512; elsewhere it is another number of the same kind.
    step = 8.0 if dtype == "bfloat16" else 20.0
    each = 12.0 + (1.5 + 0.8 * settings.rounds * settings.steps) * step
    able = sum(workload.kind in contestant.kinds for field in fields for contestant in field)
    return able * each / 60


if __name__ == "__main__":
    sys.exit(main())

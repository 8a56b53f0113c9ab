"""How fast the operator answers and how little it writes, on a control plane of its own.

Times are the API server's: every figure is read from its audit log, so neither this program nor a
watch is part of it. There is no node: this program plays the pods. Usage: make bench-operator
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cluster import binaries, control_plane, images
from cluster.handle import Cluster
from finetune_operator.kube import auth
from finetune_operator.kube.client import Client
from finetune_operator.runtime.kinds import FINETUNEJOBS
from finetune_operator.vocabulary import API_VERSION, KIND
from integration.operator_process import USER, OperatorProcess, free_port, install, kubeconfig
from integration.reporter import Reporter, settings
from integration.world import World, until
from unit.operator.builders import MINIMAL

Json = dict[str, Any]

STAGES = ("prepare", "train", "merge", "upload")
WRITES = ("create", "update", "patch", "delete")
# The operator's first call after a start pays for connections and imports.
WARM_UP = 3


@dataclass(frozen=True)
class Figure:
    """One result, beside what it must be."""

    name: str
    value: float
    unit: str
    limit: float

    def __str__(self) -> str:
        verdict = "ok" if self.value <= self.limit else "MISSED"
        return (
            f"{self.name:<44} {self.value:>8.1f} {self.unit:<6} limit {self.limit:>6.1f}"
            f"  ratio {self.value / self.limit:>5.2f}  {verdict}"
        )


@dataclass(frozen=True)
class Call:
    """A call that the API server has answered."""

    verb: str
    resource: str
    name: str
    user: str
    answered: float


def calls(log: Path, namespace: str) -> Iterator[Call]:
    """The successful calls on objects of a namespace or of none, in the log's order."""
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        about = entry.get("objectRef", {})
        if (
            about.get("namespace", namespace) != namespace
            or entry["responseStatus"].get("code", 500) >= 300
        ):
            continue
        yield Call(
            verb=entry["verb"],
            resource="/".join(filter(None, (about.get("resource"), about.get("subresource")))),
            name=about.get("name", ""),
            user=entry["user"]["username"],
            answered=datetime.fromisoformat(entry["stageTimestamp"]).timestamp(),
        )


def created(found: list[Call], resource: str, name: str) -> float:
    """When this object was created."""
    return next(
        c.answered for c in found if (c.verb, c.resource, c.name) == ("create", resource, name)
    )


class Bench:
    """A control plane with an operator on it."""

    def __init__(self, cluster: Cluster, operator: OperatorProcess, port: int, tls: Path) -> None:
        assert cluster.audit_log is not None
        self.port = port
        self.tls = tls
        self.cluster = cluster
        self.operator = operator
        self.log: Path = cluster.audit_log

    def idle_latency(self, runs: int) -> list[Figure]:
        """Runs one after another, each through all stages."""
        with self.cluster.namespace("bench-idle") as namespace:
            world = World(self.cluster, namespace)
            for number in range(runs + WARM_UP):
                self._whole_run(world, f"run-{number}")
            self._settle()
            found = list(calls(self.log, namespace))
        first, following = [], []
        for number in range(WARM_UP, runs + WARM_UP):
            run = f"run-{number}"
            applied = created(found, "finetunejobs", run)
            first.append(created(found, "jobs", f"{run}-prepare-1") - applied)
            for stage, after in itertools.pairwise(STAGES):
                finished = max(
                    c.answered
                    for c in found
                    if c.name == f"{run}-{stage}-1"
                    and c.resource == "jobs/status"
                    and c.answered < created(found, "jobs", f"{run}-{after}-1")
                )
                following.append(created(found, "jobs", f"{run}-{after}-1") - finished)
        return [
            Figure("apply answered -> Job created, median", _median_ms(first), "ms", 50),
            Figure("Job finished -> next Job created, median", _median_ms(following), "ms", 50),
        ]

    def writes(self, stage_seconds: float) -> Figure:
        """One run whose stages take their time, and whose training reports every second."""
        with self.cluster.namespace("bench-writes") as namespace:
            begun = time.time()
            self._whole_run(World(self.cluster, namespace), "slow", stage_seconds)
            self._settle()
            found = list(calls(self.log, namespace))
        # The review of a pod's token is a call on no namespace.
        ours = [c for c in found if c.user == USER and c.verb in WRITES and c.answered >= begun]
        elapsed = max(c.answered for c in ours) - min(c.answered for c in ours)
        kinds = Counter(f"{call.verb} {call.resource}" for call in ours)
        print(f"writes of one run of {elapsed:.0f} s: {dict(kinds)}")
        return Figure("API writes of one run", len(ours), "calls", 3 * len(STAGES) + elapsed / 10)

    def burst(self, size: int) -> list[Figure]:
        """Many runs at once."""
        with self.cluster.namespace("bench-burst") as namespace:
            asyncio.run(self._apply_all(namespace, size))
            world = World(self.cluster, namespace)
            until(lambda: len(world.jobs()) == size, f"{size} Jobs", seconds=60)
            self._settle()
            found = list(calls(self.log, namespace))
        applied = [c.answered for c in found if (c.verb, c.resource) == ("create", "finetunejobs")]
        made = [c.answered for c in found if (c.verb, c.resource) == ("create", "jobs")]
        print(f"burst: {size} applied within {max(applied) - min(applied):.2f} s")
        since_first = max(made) - min(applied)
        return [Figure(f"burst of {size}: first apply -> last Job", since_first, "s", 1.5)]

    def memory(self) -> Figure:
        return Figure("operator RSS", self.operator.memory() / 2**20, "MiB", 150)

    def _whole_run(self, world: World, run: str, stage_seconds: float = 0.0) -> None:
        world.apply(run)
        for stage in STAGES:
            if stage_seconds:
                pod = world.run(f"{run}-{stage}-1")
                self._work(world, run, stage, pod, stage_seconds)
            world.finish(f"{run}-{stage}-1", message="Done.")
        world.wait_for_phase(run, "Succeeded")

    def _work(self, world: World, run: str, stage: str, pod: str, seconds: float) -> None:
        if stage != "train":
            time.sleep(seconds)
            return
        reporter = Reporter(self.cluster, world.namespace, self.port, self.tls)
        token = reporter.token(reporter.audience(run), pod)
        for step in range(1, int(seconds) + 1):
            time.sleep(1)
            assert reporter.report_step(run, token, step, int(seconds)) == 200

    async def _apply_all(self, namespace: str, size: int) -> None:
        access = await auth.load(str(self.cluster.kubeconfig))
        client = Client(access.configuration, user_agent="bench")
        bodies = [
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "metadata": {"name": f"run-{number}"},
                "spec": MINIMAL,
            }
            for number in range(size)
        ]
        await asyncio.gather(*(client.create(FINETUNEJOBS, namespace, body) for body in bodies))
        await client.close()

    def _settle(self) -> None:
        # The log is written in batches, and the operator may still be telling what it did.
        time.sleep(3)


def _median_ms(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="runs one after another")
    parser.add_argument("--burst", type=int, default=100, help="runs at once")
    parser.add_argument(
        "--stage-seconds",
        type=float,
        default=15.0,
        help="length of a stage when writes are counted",
    )
    arguments = parser.parse_args()
    with control_plane.temporary() as plane, tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(
            kubeconfig=plane.kubeconfig,
            provider="control-plane",
            kubectl_binary=binaries.path_of("kubectl"),
            image=images.no_node,
            audit_log=plane.audit_log,
        )
        install(cluster)
        access = kubeconfig(cluster, Path(directory) / "kubeconfig")
        port, tls = free_port(), Path(directory) / "tls"
        operator = OperatorProcess(access, Path(directory) / "log", settings(port, tls))
        operator.start()
        try:
            bench = Bench(cluster, operator, port, tls)
            figures = [
                *bench.idle_latency(arguments.runs),
                *bench.burst(arguments.burst),
                bench.writes(arguments.stage_seconds),
                bench.memory(),
            ]
        finally:
            operator.stop()
    print(*figures, sep="\n")


if __name__ == "__main__":
    main()

"""What of `kubectl finetune` only a real kubelet can show: logs that are followed from one attempt
to the next, and a workspace that a pod reads.
"""

from __future__ import annotations

import json
from pathlib import Path

from e2e.bench import Bench, Stack, tiny_job
from e2e.test_stage_contract import foreign_job
from finetune_cli.errors import Exit
from stack.desk import Desk


def test_logs_are_followed_from_the_first_attempt_to_the_end_of_the_second(
    bench: Bench, stack: Stack, tmp_path: Path
) -> None:
    desk = Desk(stack.cluster, bench.namespace, tmp_path)
    image = stack.cluster.image("foreign")
    bench.apply(foreign_job("told", image, {"train": [{"exit": 11}]}, upload=None))

    following = desk.start("finetune", "logs", "told", "--follow", "-n", bench.namespace)
    lines = desk.end(following, seconds=180).splitlines()

    assert bench.get("told")["status"]["phase"] == "Succeeded"
    told = [line.split(" | ", 1) for line in lines]
    origins = list(dict.fromkeys(origin for origin, _ in told))
    assert origins == ["prepare-1", "train-1/0", "train-2/0"]
    words = {origin: json.loads(line) for origin, line in told if line.startswith("{")}
    assert words["train-1/0"]["message"] == "train ends with 11, as it was asked to."
    assert words["train-2/0"]["outcome"] == "Succeeded"
    assert len(told) == len(set(lines))
    assert desk.run("logs", "told").splitlines() == lines


def test_the_report_of_a_run_that_publishes_nothing_comes_out_of_its_workspace(
    bench: Bench, stack: Stack, tmp_path: Path
) -> None:
    desk = Desk(stack.cluster, bench.namespace, tmp_path)
    name = bench.apply(tiny_job("kept", upload=None))
    bench.wait_for_phase(name, "Succeeded")

    assert "kept.html is written" in desk.run("report", name)

    page = (tmp_path / "kept.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    assert bench.namespace in page
    assert "Steps" in page
    assert "exists: name another --file" in desk.run("report", name, code=Exit.BAD)
    pods = bench.items("pods", "app.kubernetes.io/managed-by=kubectl-finetune")
    assert pods == []

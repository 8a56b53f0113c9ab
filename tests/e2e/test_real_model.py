"""The sample of `make demo` with a real model and real data, with fewer rows and steps."""

from __future__ import annotations

from pathlib import Path

import yaml

from demo import proof
from demo.__main__ import SAMPLE
from e2e.bench import Bench, Stack
from stack import hub


def test_a_real_model_learns_and_what_is_published_speaks_differently(
    bench: Bench, stack: Stack, tmp_path: Path
) -> None:
    job = yaml.safe_load(SAMPLE.read_text())
    job["spec"]["dataset"]["split"] = "train[:400]"
    job["spec"]["training"] |= {"maxSteps": 3, "sequencesPerStep": 4}
    with hub.reachable(stack.cluster) as api:
        hub.seed_real(api)
        name = bench.apply(job)

        resource = bench.wait_for_phase(name, "Succeeded", seconds=480)

        # Raises unless the validation loss fell.
        proof.losses(resource)
        artifacts, resolved = resource["status"]["artifacts"], resource["status"]["resolved"]
        tuned, base = tmp_path / "tuned", tmp_path / "base"
        proof.download(api.endpoint, artifacts["repository"], artifacts["commit"], tuned)
        source = job["spec"]["model"]["source"].removeprefix("hf://")
        proof.download(api.endpoint, source, resolved["modelCommit"], base)
    questions = proof.QUESTIONS[:1]
    assert proof.answers(tuned, questions) != proof.answers(base, questions)

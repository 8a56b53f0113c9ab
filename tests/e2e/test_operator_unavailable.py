"""The operator dies while a run is under way."""

from __future__ import annotations

import pytest

from e2e.bench import Bench, Stack, stage, tiny_job
from stack import operator


@pytest.mark.without_operator
def test_a_run_goes_on_when_the_operator_is_deleted_during_training(
    bench: Bench, stack: Stack
) -> None:
    training = {"maxSteps": 700, "sequenceLength": 128, "sequencesPerStep": 4}
    name = bench.apply(tiny_job("orphan", upload=None, training=training))
    before = bench.wait_for_step(name, 10)
    job = bench.items("jobs", f"finetune.dev/run={name},finetune.dev/stage=train")[0]

    operator.restart(stack.cluster)
    resource = bench.wait_for_phase(name, "Succeeded", seconds=300)

    trained = bench.items("jobs", f"finetune.dev/run={name},finetune.dev/stage=train")
    assert [found["metadata"]["uid"] for found in trained] == [job["metadata"]["uid"]]
    assert stage(resource, "train")["attempt"] == 1
    assert resource["status"]["planHash"] == before["status"]["planHash"]
    assert resource["status"]["startTime"] == before["status"]["startTime"]
    assert resource["status"]["progress"]["step"] == 700

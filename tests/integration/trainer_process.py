"""A real training beside a test: the trainer as a container would start it, with a tiny model. It
serves its metrics and reports to the operator as the pod that it stands for.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from finetune_operator.core.naming import progress_path
from integration.operator_process import free_port
from integration.reporter import Reporter
from unit.trainer.train.made import container_environment, plan, prepared_workspace


@contextlib.contextmanager
def training(
    directory: Path, reporter: Reporter, namespace: str, run: str, pod: str
) -> Iterator[int]:
    """It trains until the block ends; the port of its metrics."""
    token = directory / "token"
    token.write_text(reporter.token(reporter.audience(run), pod))
    port = free_port()
    settings = plan(
        maxSteps=1_000_000,
        logEverySteps=5,
        evaluateEverySteps=10,
        checkpoint={"everySteps": 50, "keep": 1},
    )
    environment = container_environment(
        prepared_workspace(directory / "workspace"),
        settings,
        FINETUNE_METRICS_PORT=str(port),
        FINETUNE_PROGRESS_SECONDS="1",
        KUBEFLOW_TRAINER_SERVER_URL=reporter.url + progress_path(namespace, run),
        KUBEFLOW_TRAINER_SERVER_TOKEN=str(token),
        KUBEFLOW_TRAINER_SERVER_CA_CERT=str(reporter.authority),
    )
    with (directory / "trainer.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "finetune_trainer", "train"],
            stdout=log,
            stderr=log,
            env={**os.environ, **environment},
        )
    try:
        yield port
    finally:
        process.kill()
        process.wait(timeout=30)

"""Experiment trackers: the logged values once more, in the files that a tracker's own tools read.

Nothing leaves the pod, which has neither network nor token for it: TensorBoard and MLflow read
their files from the workspace, and `wandb sync` sends a run from there. accelerate's classes for
these trackers are not used: they want its process state, which takes device and threads into its
own hands.
"""

from __future__ import annotations

import math
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from finetune_trainer.run import Mlflow, Run, Wandb
from finetune_trainer.train.journal import Outlet
from finetune_trainer.workspace import Workspace

# At its end a run waits so long for a tracker that has not written all.
FINISH_SECONDS = 60.0

_Values = tuple[int, dict[str, float]]


class Tracker(Protocol):
    """One of them; all its methods are called in one thread."""

    name: str

    def start(self, step: int) -> None:
        """Open it; `step` is the first that will be logged."""
        ...

    def log(self, step: int, values: dict[str, float]) -> None:
        """One logged step."""
        ...

    def finish(self) -> None:
        """Close it."""
        ...


class TensorBoard:
    """Event files in `directory`, one an attempt."""

    name = "TensorBoard"

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def start(self, step: int) -> None:
        """A resumed run repeats steps: what an earlier attempt wrote of them is to be ignored."""
        from tensorboardX import SummaryWriter

        # Files of the same second would have the same name.
        self._writer: Any = SummaryWriter(
            str(self._directory), purge_step=step, filename_suffix=f".from-step-{step}"
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        """Every value as a scalar, on the disk at once."""
        for name, value in values.items():
            self._writer.add_scalar(tag(name), value, global_step=step)
        self._writer.flush()

    def finish(self) -> None:
        """See `Tracker`."""
        self._writer.close()


class WeightsAndBiases:
    """An offline run below `directory`, of the same id in all attempts."""

    name = "Weights & Biases"

    def __init__(self, settings: Wandb, run: Run, directory: Path) -> None:
        self._settings, self._run, self._directory = settings, run, directory

    def start(self, step: int) -> None:
        """See `Tracker`."""
        import wandb

        self._directory.mkdir(parents=True, exist_ok=True)
        self._log: Any = wandb.init(
            project=self._settings.project,
            name=self._run.name,
            id=f"{self._run.name}-{self._run.plan_hash}",
            resume="allow",
            mode="offline",
            dir=str(self._directory),
            config=self._run.model_dump(mode="json", by_alias=True),
            settings=wandb.Settings(console="off", silent=True, x_disable_stats=True),
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        """See `Tracker`."""
        self._log.log({tag(name): value for name, value in values.items()}, step=step)

    def finish(self) -> None:
        """See `Tracker`."""
        self._log.finish()


class MLflow:
    """A run in the file store `directory`, the same in all attempts. What an attempt repeats of the
    steps before is there twice, with the same values.
    """

    name = "MLflow"
    # Which run of the experiment is this one.
    TAG = "finetune.planHash"

    def __init__(self, settings: Mlflow, run: Run, directory: Path) -> None:
        self._settings, self._run, self._directory = settings, run, directory

    def start(self, step: int) -> None:
        """See `Tracker`."""
        # MLflow's databases want locks, which shared volumes often lack, and seconds of a CPU
        # before the first step; its file store is complete, and only gets nothing new any more.
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        from mlflow.tracking import MlflowClient

        self._client: Any = MlflowClient(self._directory.resolve().as_uri())
        self._id = self._found() or self._new()
        self._client.update_run(self._id, status="RUNNING")

    def _found(self) -> str | None:
        experiment = self._client.get_experiment_by_name(self._settings.experiment)
        if experiment is None:
            return None
        wanted = f"tags.`{self.TAG}` = '{self._run.plan_hash}'"
        runs = self._client.search_runs([experiment.experiment_id], wanted, max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def _new(self) -> str:
        client, name = self._client, self._settings.experiment
        experiment = client.get_experiment_by_name(name)
        run = client.create_run(
            experiment.experiment_id if experiment else client.create_experiment(name),
            run_name=self._run.name,
            tags={self.TAG: self._run.plan_hash},
        )
        for key, value in _leaves(self._run.model_dump(mode="json", by_alias=True)):
            client.log_param(run.info.run_id, key, value)
        return str(run.info.run_id)

    def log(self, step: int, values: dict[str, float]) -> None:
        """See `Tracker`."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(
            self._id, metrics=[Metric(tag(name), v, now, step) for name, v in values.items()]
        )

    def finish(self) -> None:
        """See `Tracker`."""
        self._client.set_terminated(self._id)


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a plan by their paths, `training.seed`; no absent ones."""
    if isinstance(value, Mapping):
        for key, member in value.items():
            yield from _leaves(member, f"{name}.{key}" if name else key)
    elif value is not None and value != []:
        yield name, value


class Background:
    """An outlet that passes values on in a thread; one whose tracker fails ends, and only that."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._waiting: queue.SimpleQueue[_Values | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=tracker.name, daemon=True)

    def __enter__(self) -> Background:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waiting.put(None)
        self._thread.join(FINISH_SECONDS)
        if self._thread.is_alive():
            print(f"{self._tracker.name} is too slow: its last values are lost", file=sys.stderr)

    def put(
        self, step: int, total_steps: int, metrics: Mapping[str, float], eta_seconds: float | None
    ) -> None:
        """See `Outlet`; numbers that are none are left out."""
        self._waiting.put((step, {n: v for n, v in metrics.items() if math.isfinite(v)}))

    def _run(self) -> None:
        started = False
        try:
            while (item := self._waiting.get()) is not None:
                step, values = item
                if not started:
                    self._tracker.start(step)
                    started = True
                self._tracker.log(step, values)
            if started:
                self._tracker.finish()
        except Exception as error:
            print(f"{self._tracker.name} is not written any more: {error}", file=sys.stderr)


def tag(name: str) -> str:
    """A metric's name as trackers group it: `train/loss`, `eval/loss`, `eval/base_loss`."""
    if name.startswith("base_eval_"):
        return f"eval/base_{name.removeprefix('base_eval_')}"
    if name.startswith("eval_"):
        return f"eval/{name.removeprefix('eval_')}"
    return f"train/{name}"


@contextmanager
def open_trackers(run: Run, workspace: Workspace) -> Iterator[list[Outlet]]:
    """Those that the plan asks for, until the run ends."""
    asked: list[Tracker] = []
    if run.tracking.tensorboard is not None:
        asked.append(TensorBoard(workspace.logs / "tensorboard"))
    if run.tracking.wandb is not None:
        asked.append(WeightsAndBiases(run.tracking.wandb, run, workspace.logs / "wandb"))
    if run.tracking.mlflow is not None:
        asked.append(MLflow(run.tracking.mlflow, run, workspace.logs / "mlflow"))
    with ExitStack() as stack:
        yield [stack.enter_context(Background(tracker)) for tracker in asked]

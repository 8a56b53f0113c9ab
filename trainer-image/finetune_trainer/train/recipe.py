"""Fine-tuning, as it is done: load, resume, step until the plan is fulfilled, save.

Read this file for the algorithm. Every idea it uses has a file of its own beside it.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers.utils import logging

from finetune_trainer.outcome import PreemptedError
from finetune_trainer.run import Run, Strategy
from finetune_trainer.train import export, skips
from finetune_trainer.train.batches import StepPlan, steps_from
from finetune_trainer.train.checkpoint import Position
from finetune_trainer.train.device import choose_device, peak_memory_bytes, size_threads
from finetune_trainer.train.evaluate import evaluate
from finetune_trainer.train.flops import peak_flops, work_of
from finetune_trainer.train.guards import (
    REACHED_IN_STEPS,
    require_all_reached,
    require_finite_validation,
    require_work_for_all,
)
from finetune_trainer.train.heartbeat import Heart
from finetune_trainer.train.launch import end_now
from finetune_trainer.train.methods import virtual_tokens
from finetune_trainer.train.outlets import open_journal
from finetune_trainer.train.pace import Pace
from finetune_trainer.train.parallel import Ranks, process_group, seed_step
from finetune_trainer.train.passes import passes_of
from finetune_trainer.train.results import result, summary
from finetune_trainer.train.samples import write_samples
from finetune_trainer.train.saving import Saver
from finetune_trainer.train.schedule import learning_rate
from finetune_trainer.train.setup import Context, Data, Trained, load_data, load_model
from finetune_trainer.train.skips import SkippedStep, blamed, flagged, is_finite
from finetune_trainer.train.speed.compiling import (
    DECIDE_AFTER_STEPS,
    can_compile,
    compile_layers,
    pays,
)
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace


def train(run: Run, workspace: Workspace, stop: Stop) -> tuple[str, dict[str, Any]]:
    """Train as `run` says, as one rank of those that the environment names.

    Returns a summary for a person and the stage's result (docs/stage-contract.md).

    Raises:
        UserError: model, data and plan do not fit together; the sentence says how to change the
            plan.
        PreemptedError: SIGTERM came; a checkpoint holds all finished steps.
        NonFiniteLossError: loss or gradient was NaN or infinite three steps in a row.
        RetryableError: another rank was lost.
        OSError: the workspace is full or lost.
    """
    ranks = Ranks.from_environment()
    require_work_for_all(run, ranks.world_size)
    device = choose_device(
        ranks.local_rank, ranks.local_world_size, asked=run.resources.gpus_per_node
    )
    size_threads(ranks.local_world_size)
    logging.disable_progress_bar()
    with (
        Heart(ranks.rank, ranks.world_size).watched(workspace.logs, end_now) as heart,
        process_group(
            ranks, device, heart, alone=run.parallelism.alone, offload=run.parallelism.offloads
        ) as group,
        open_journal(run, workspace, active=group.is_main) as journal,
    ):
        context = Context(run, workspace, group, journal)
        data, trained = load_data(context), load_model(context)
        with Saver(context, trained) as saver:
            return _Training(context, stop, data, trained, saver).run()


@dataclass(frozen=True, slots=True)
class _StepResult:
    """What one step was: `sums` are of all ranks (see `Objective.step`)."""

    sums: list[float]
    targets: int
    learning_rate: float
    gradient_norm: float
    stopping: bool
    saving: bool
    skipped: SkippedStep | None


class _Training:
    """One run in one process."""

    def __init__(
        self, context: Context, stop: Stop, data: Data, trained: Trained, saver: Saver
    ) -> None:
        self.context, self.plan, self.training = context, context.run, context.run.training
        self.group, self.heart = context.group, context.group.heart
        self.journal, self.saver, self.stop = context.journal, saver, stop
        self.data, self.trained = data, trained
        trained.objective.begin(
            data.splits, trained.engine, self.group, context.workspace.checkpoints
        )
        self.can_compile = can_compile(
            trained.model, sharded=trained.choice.strategy is not Strategy.DDP
        )
        peak = peak_flops(self.group.device, trained.precision)
        self.pace = Pace(work_of(trained.model), peak and peak * self.group.world_size)

    def run(self) -> tuple[str, dict[str, Any]]:
        """The algorithm."""
        position = self.saver.resume() or Position()
        resumed_from = position.step or None
        self._say_where(position)
        self.stop.defer()
        steps = steps_from(
            position.step, self.data.total_steps, self.data.train.lengths, self.training
        )
        for plan in self.pace.waiting(steps):
            # What is due after the steps so far: of a resumed run, too, it may still be to do.
            every = self.training.evaluate_every_steps
            if position.step == 0 or (every and position.step % every == 0):
                self._evaluate(position)
            if position.evaluations.exhausted(self.training.early_stopping):
                break
            if self.saver.is_due(position):
                self.saver.save(position)
            self._compile_if_it_pays(position.step, position.step - (resumed_from or 0))
            started = time.perf_counter()
            done = self._step(plan, position.step)
            self.pace.add(self.data.train, plan.documents, time.perf_counter() - started)
            position.step += 1
            position.epoch = plan.epoch
            self._count(done, position)
            self._log(done, position)
            self.saver.asked |= done.saving
            if done.stopping:
                self._preempt(position)
        # What is left can fail as well, and must not cost a step when it is tried again.
        self.saver.save(position)
        self._evaluate(position)
        return self._finish(position, resumed_from)

    def _say_where(self, position: Position) -> None:
        # Those of later steps are made again.
        evaluated = position.evaluations.latest_step == position.step
        self.journal.resume_at(position.step or -1, evaluated=evaluated)
        self.journal.forget_after(position.step, self.context.workspace.logs / skips.FILE)
        if position.step:
            self.journal.say(f"resuming after step {position.step} of {self.data.total_steps}")

    def _compile_if_it_pays(self, step: int, steps_done: int) -> None:
        if steps_done not in (0, DECIDE_AFTER_STEPS):
            return
        left = self.pace.eta_seconds(self.data.total_steps - step) or 0.0
        if pays(
            self.training.compile,
            steps_done=steps_done,
            seconds_left=self.group.maximum(left),
            can=self.can_compile,
        ):
            compile_layers(self.trained.model)
            self.journal.say("compiling the model's layers, which takes a while in the next step")

    def _step(self, plan: StepPlan, step: int) -> _StepResult:
        """One optimizer step on this rank's share of the step's sequences.

        The loss is summed over all ranks and micro-batches and divided once, by the targets of the
        whole step.
        """
        engine, objective, examples = self.trained.engine, self.trained.objective, self.data.train
        targets = objective.targets(examples, plan.documents)
        seed_step(self.training.seed, step, self.group.rank)
        beat = partial(self.heart.beat, f"in step {step + 1}")
        objective.look_ahead(examples, plan.sequences, engine, self.group, beat)
        mine, passes = passes_of(objective, examples, plan.sequences, self.group)
        self.trained.model.train()
        engine.start_step()
        coming = self.heart.beating(f"in step {step + 1}", self.pace.waiting(passes))
        weight = 1 / max(1, targets)
        found = [
            engine.backward(objective.step, batch, weight=weight, last=is_last)
            for batch, is_last in coming
        ]
        total = torch.stack(found).sum(0, dtype=torch.float64).tolist()
        asked = [float(self.stop.requested), float(self.saver.wanted)]
        *sums, stopping, saving = self.group.sum([*total, *asked])
        mean = sums[0] / max(1, targets)
        norm = engine.clip(self.training.max_grad_norm)
        rate = learning_rate(
            self.training.scheduler,
            peak=self.training.learning_rate,
            step=step,
            total_steps=self.data.total_steps,
        )
        skipped = None
        if is_finite(mean, norm):
            engine.update(rate)
        else:
            losses = [each[0] for each in found[: len(mine)]]
            flags = self.group.sum(flagged(plan.documents, mine, losses))
            skipped = SkippedStep(step + 1, mean, norm, blamed(plan.documents, flags))
        return _StepResult(sums, targets, rate, norm, stopping > 0, saving > 0, skipped)

    def _count(self, done: _StepResult, position: Position) -> None:
        """Take note of a finished step, and stop where steps teach nothing."""
        position.skips = position.skips.after(finite=done.skipped is None)
        if done.skipped:
            skips.tell(done.skipped, self.data.train, self.context)
            skips.require_few(position.skips, done.skipped, self.data.total_steps, self.plan)
            return
        position.window.add(done.sums, done.targets)
        position.metrics.setdefault("first_loss", done.sums[0] / max(1, done.targets))
        learned = position.step - position.skips.total
        if learned <= REACHED_IN_STEPS:
            require_all_reached(self.trained.engine, self.plan.method, steps=learned)

    def _log(self, done: _StepResult, position: Position) -> None:
        """Tell what the latest steps were, every so many and after the last."""
        if position.step < self.data.total_steps and position.step % self.training.log_every_steps:
            return
        loss, measured = position.window.take(self.trained.objective)
        position.metrics |= loss
        self._record(
            position,
            {
                **loss,
                "learning_rate": done.learning_rate,
                "grad_norm": done.gradient_norm,
                **self.pace.metrics(),
                "peak_memory_bytes": peak_memory_bytes(self.group.device),
                "current_epoch": round(position.epoch, 4),
                "skipped_steps": position.skips.total,
                **measured,
            },
        )

    def _evaluate(self, position: Position) -> None:
        """Measure the model on the held-out data, unless that has been done after this step."""
        if self.data.validation is None or position.evaluations.latest_step == position.step:
            return
        self.heart.beat(f"evaluating after step {position.step}")
        between = partial(self._stop_if_asked, position)
        # Before the first step this is the base, but for virtual tokens.
        with nullcontext() if position.step else virtual_tokens.left_out(self.trained.model):
            found = evaluate(self.trained, self.data.validation, self.group, between)
            write_samples(self.trained, self.data.validation, self.context, position.step, between)
        require_finite_validation(found["loss"], step=position.step, run=self.plan)
        base = "" if position.step else "base_"
        position.metrics |= {f"{base}validation_{name}": each for name, each in found.items()}
        early = self.training.early_stopping
        position.evaluations = position.evaluations.after(position.step, found, early)
        self._record(position, {f"{base}eval_{name}": each for name, each in found.items()})

    def _record(self, position: Position, metrics: dict[str, float]) -> None:
        total = self.data.total_steps
        eta = self.pace.eta_seconds(total - position.step)
        self.journal.record(position.step, total, metrics, eta)

    def _stop_if_asked(self, position: Position) -> None:
        # All ranks ask at the same place, so that all stop at the same place.
        if self.group.any(self.stop.requested):
            self._preempt(position)

    def _preempt(self, position: Position) -> None:
        if position.step == 0:
            raise PreemptedError("Stopped before the first step.")
        self.saver.save(position)
        self.saver.finish()
        # A rank that ends early would look like a failure to the one that still writes.
        self.group.barrier()
        raise PreemptedError(
            f"Stopped after step {position.step} of {self.data.total_steps}; a checkpoint is saved."
        )

    def _finish(self, position: Position, resumed_from: int | None) -> tuple[str, dict[str, Any]]:
        best_step = self.saver.take_best(position)
        peak = self.group.maximum(float(peak_memory_bytes(self.group.device)))
        left = export.save(self.trained, self.plan.model, self.context)
        values = result(
            position,
            self.pace,
            total_steps=self.data.total_steps,
            trainable=self.trained.trainable,
            precision=self.trained.precision,
            choice=self.trained.choice,
            peak_memory_bytes=int(peak),
            resumed_from=resumed_from,
            best_step=best_step,
        )
        told = summary(position, self.pace, total_steps=self.data.total_steps, best_step=best_step)
        return told, {**values, left: left}

"""Fine-tuning, as it is done: load, resume, step until the plan is fulfilled, save.

Read this file for the algorithm. Every idea it uses has a file of its own beside it.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging

from finetune_trainer.data.examples import Examples
from finetune_trainer.data.packing import total_steps
from finetune_trainer.outcome import (
    NonFiniteLossError,
    PreemptedError,
    RetryableError,
    UserError,
)
from finetune_trainer.run import Run
from finetune_trainer.train import checkpoint, export
from finetune_trainer.train.batches import (
    Batch,
    StepPlan,
    collate,
    count_targets,
    micro_batches,
    steps_from,
)
from finetune_trainer.train.checkpoint import Position
from finetune_trainer.train.device import (
    choose_device,
    compute_dtype,
    peak_memory_bytes,
    size_threads,
)
from finetune_trainer.train.journal import Journal, Pace
from finetune_trainer.train.loss import SummedLoss
from finetune_trainer.train.model import add_lora, load_base, trainable_parameters
from finetune_trainer.train.optimizer import adamw, clip, set_learning_rate, unreached
from finetune_trainer.train.parallel import (
    Group,
    Ranks,
    assert_same_start,
    process_group,
    seed_step,
    without_averaging,
)
from finetune_trainer.train.probe import Abilities, probe
from finetune_trainer.train.progress import Endpoint, Reporter
from finetune_trainer.train.schedule import learning_rate
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace

# LoRA's A has no gradient until B is no longer zero, which takes the first step.
REACHED_IN_STEPS = 2


def train(run: Run, workspace: Workspace, stop: Stop) -> tuple[str, dict[str, Any]]:
    """Train as `run` says, as one rank of those that the environment names.

    Returns a summary for a person and the stage's result (docs/stage-contract.md).

    Raises:
        UserError: model, data and plan do not fit together; the sentence says how to change the
            plan.
        PreemptedError: SIGTERM came; a checkpoint holds all finished steps.
        NonFiniteLossError: loss or gradient became NaN or infinite.
        RetryableError: another rank was lost.
        OSError: the workspace is full or lost.
    """
    ranks = Ranks.from_environment()
    _assert_work_for_all(run, ranks.world_size)
    device = choose_device(
        ranks.local_rank, ranks.local_world_size, asked=run.resources.gpus_per_node
    )
    size_threads(ranks.local_world_size)
    logging.disable_progress_bar()
    with (
        process_group(ranks, device) as group,
        Reporter(Endpoint.from_environment() if group.is_main else None) as reporter,
    ):
        journal = Journal(workspace.history, reporter, active=group.is_main)
        return _Training(run, workspace, stop, group, device, journal).run()


def _assert_work_for_all(run: Run, processes: int) -> None:
    sequences = run.training.sequences_per_step
    if sequences < processes:
        raise UserError(
            f"spec.training.sequencesPerStep is {sequences}, too few for {processes} processes "
            f"(spec.resources.nodes times spec.resources.gpusPerNode): raise it to {processes} "
            "or a multiple, or ask for fewer accelerators."
        )


@dataclass(frozen=True, slots=True)
class _StepResult:
    loss: float
    gradient_norm: float
    stopping: bool


class _Training:
    """One run in one process: what is loaded once and used by every step."""

    def __init__(
        self,
        run: Run,
        workspace: Workspace,
        stop: Stop,
        group: Group,
        device: torch.device,
        journal: Journal,
    ) -> None:
        self.plan = run
        self.training = run.training
        self.workspace = workspace
        self.stop = stop
        self.group = group
        self.device = device
        self.journal = journal
        self.pace = Pace()
        self.saved_step = 0
        self._load_data()
        self._load_model()

    def _load_data(self) -> None:
        directory = self.workspace.data
        prepared = json.loads((directory / "meta.json").read_bytes())["planHash"]
        if prepared != self.plan.plan_hash:
            raise RetryableError(
                f"The workspace holds data of plan {prepared}, not of {self.plan.plan_hash}: "
                "the prepare stage has to run first."
            )
        self.examples = Examples(directory / "train")
        if not len(self.examples):
            raise UserError("spec.dataset.split has no example to train on; choose another split.")
        validation = directory / "validation"
        self.validation = Examples(validation) if validation.is_dir() else None
        self.total_steps = total_steps(
            self.examples.lengths,
            capacity=self.training.sequence_length,
            packing=self.training.packing,
            seed=self.training.seed,
            sequences_per_step=self.training.sequences_per_step,
            epochs=self.training.epochs,
            max_steps=self.training.max_steps,
        )

    def _load_model(self) -> None:
        lora = self.plan.method.lora
        dtype = compute_dtype(self.training.precision, self.device)
        # What is trained stays in float32; a full model is then computed with under autocast.
        self.autocast = lora is None and dtype is not torch.float32
        self.dtype = dtype
        self.dtype_name = str(dtype).removeprefix("torch.")
        self.model: PreTrainedModel = load_base(
            self.workspace.model,
            dtype=torch.float32 if self.autocast else dtype,
            device=self.device,
        )
        self.abilities: Abilities = probe(self.model, self.training.sequence_length)
        if not self.abilities.shared_rows:
            self.journal.say(
                "This architecture cannot keep documents apart in one row: they are padded, "
                "one a row."
            )
        torch.manual_seed(self.training.seed)
        self.adapter: PeftModel | None = add_lora(self.model, lora) if lora else None
        if self.training.gradient_checkpointing:
            self.model.activation_checkpointing_enable({"use_reentrant": False})
        self.parameters = trainable_parameters(self.model)
        self.trainable = sum(parameter.numel() for parameter in self.parameters.values())
        self.optimizer = adamw(
            self.parameters,
            weight_decay=self.training.weight_decay,
            lora_plus_ratio=lora.lora_plus_ratio if lora else 1.0,
        )
        self.loss = SummedLoss(self.model, separable_head=self.abilities.separable_head)
        self.module: nn.Module = self.group.wrap(self.loss)
        asked = self.plan.resources.gpus_per_node
        if asked and self.device.type == "cpu":
            self.journal.say(
                f"WARNING: spec.resources.gpusPerNode is {asked}, but this pod has no accelerator: "
                "training on the CPU."
            )
        self.journal.say(
            f"{self.trainable:,} trainable parameters, {self.dtype_name} on "
            f"{self.device.type}, {self.group.world_size} process(es), "
            f"{torch.get_num_threads()} threads each"
        )

    def run(self) -> tuple[str, dict[str, Any]]:
        position, resumed_from = self._resume()
        assert_same_start(self.group, list(self.parameters.values()))
        self.stop.defer()
        if self.validation and "base_validation_loss" not in position.metrics:
            # With LoRA's B at zero, and before the first step of full training, this is the base.
            position.metrics["base_validation_loss"] = self._evaluate(position)
            self._record(position, {"base_eval_loss": position.metrics["base_validation_loss"]})
        window: list[tuple[float, int]] = []
        for plan in steps_from(
            position.step, self.total_steps, self.examples.lengths, self.training
        ):
            started = time.perf_counter()
            rate = learning_rate(
                self.training.scheduler,
                peak=self.training.learning_rate,
                step=position.step,
                total_steps=self.total_steps,
            )
            set_learning_rate(self.optimizer, rate)
            documents = [index for sequence in plan.sequences for index in sequence]
            targets = count_targets(self.examples, documents)
            result = self._step(plan, position.step, targets)
            position.step += 1
            position.epoch = plan.epoch
            tokens = int(self.examples.lengths[documents].sum())
            self.pace.add(tokens, time.perf_counter() - started)
            position.metrics.setdefault("first_loss", result.loss)
            window.append((result.loss, targets))
            if position.step == REACHED_IN_STEPS:
                self._assert_all_reached()
            metrics: dict[str, float] = {}
            last = position.step == self.total_steps
            if last or position.step % self.training.log_every_steps == 0:
                position.metrics["loss"] = _weighted_mean(window)
                window.clear()
                metrics = {
                    "loss": position.metrics["loss"],
                    "learning_rate": rate,
                    "grad_norm": result.gradient_norm,
                    "tokens_per_second": self.pace.tokens_per_second,
                    "current_epoch": round(position.epoch, 4),
                }
                self._record(position, metrics)
            if result.stopping:
                self._preempt(position)
            every = self.training.evaluate_every_steps
            if every and not last and position.step % every == 0:
                self._record(position, {"eval_loss": self._evaluate(position)})
            every = self.training.checkpoint.every_steps
            if every and not last and position.step % every == 0:
                self._save_checkpoint(position)
        self._assert_finite_weights()
        # What is left can fail as well, and must not cost a step when it is tried again.
        self._save_checkpoint(position)
        if self.validation:
            position.metrics["validation_loss"] = self._evaluate(position)
            self._record(position, {"eval_loss": position.metrics["validation_loss"]})
        return self._finish(position, resumed_from)

    def _resume(self) -> tuple[Position, int | None]:
        position, skipped = checkpoint.load_newest(
            self.workspace.checkpoints,
            plan_hash=self.plan.plan_hash,
            parameters=self.parameters,
            optimizer=self.optimizer,
        )
        for each in skipped:
            self.journal.say(f"{each.path.name} cannot be used and is skipped: {each.why}")
            if each.damaged and self.group.is_main:
                # It would count as one of those to keep, and push out one that is whole.
                shutil.rmtree(each.path)
        if position is None:
            self.journal.resume_at(-1)
            return Position(), None
        self.saved_step = position.step
        self.journal.resume_at(position.step)
        self.journal.say(f"resuming after step {position.step} of {self.total_steps}")
        return position, position.step

    def _step(self, plan: StepPlan, step: int, targets: int) -> _StepResult:
        """One optimizer step on this rank's share of the step's sequences.

        The loss is summed over all ranks and micro-batches and divided once, by `targets` of the
        whole step.
        """
        mine = plan.sequences[self.group.rank :: self.group.world_size]
        batches = self._batches(self.examples, mine)
        seed_step(self.training.seed, step, self.group.rank)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        # Averaging divides by the number of ranks; the sum is wanted.
        scale = self.group.world_size / max(1, targets)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        if not batches:
            # Fewer sequences than ranks: take part in the averaging with a gradient of zero.
            batches = [plan.sequences[0][:1]]
        for index, documents in enumerate(batches):
            batch = self._collate(self.examples, documents, supervised=bool(mine))
            with without_averaging(self.module, index < len(batches) - 1):
                with self._precision():
                    loss = self.module(batch)
                (loss * scale).backward()
            total += loss.detach()
        summed, stopping = self.group.sum([float(total), float(self.stop.requested)])
        mean = summed / max(1, targets)
        norm = clip(self.parameters, self.training.max_grad_norm)
        if not math.isfinite(mean) or not math.isfinite(norm):
            raise NonFiniteLossError(
                f"Loss {mean:.4g} with gradient norm {norm:.4g} in step {step + 1}: "
                f"{self._lower_rate()}."
            )
        self.optimizer.step()
        return _StepResult(loss=mean, gradient_norm=norm, stopping=stopping > 0)

    def _evaluate(self, position: Position) -> float:
        """Mean loss per supervised token of the validation split, each token counted once.

        Raises:
            NonFiniteLossError: it is NaN or infinite.
        """
        assert self.validation is not None
        self.model.eval()
        batches = self._batches(self.validation, [[index] for index in range(len(self.validation))])
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        count = 0
        for start in range(0, len(batches), self.group.world_size):
            # All ranks ask at the same place, so that all stop at the same place.
            if self.group.any(self.stop.requested):
                self._preempt(position)
            if start + self.group.rank < len(batches):
                batch = self._collate(self.validation, batches[start + self.group.rank])
                with torch.no_grad(), self._precision():
                    total += self.loss(batch)
                count += len(batch.targets)
        summed, targets = self.group.sum([float(total), float(count)])
        mean = summed / max(1.0, targets)
        if not math.isfinite(mean):
            if position.step == 0:
                raise NonFiniteLossError(
                    f"The validation loss is {mean:.4g} before the first step: the base model does "
                    "not work with this precision or data; set spec.training.precision to Float32 "
                    "or choose another spec.model.source."
                )
            raise NonFiniteLossError(
                f"The validation loss is {mean:.4g} after step {position.step}: "
                f"{self._lower_rate()}."
            )
        return mean

    def _batches(self, examples: Examples, packs: list[list[int]]) -> list[list[int]]:
        return micro_batches(
            packs,
            examples.lengths,
            capacity=self.training.sequence_length,
            padded=not self.abilities.shared_rows,
        )

    def _collate(self, examples: Examples, documents: list[int], supervised: bool = True) -> Batch:
        return collate(
            [examples[index] for index in documents],
            padded=not self.abilities.shared_rows,
            device=self.device,
            supervised=supervised,
        )

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.autocast)

    def _record(self, position: Position, metrics: dict[str, float]) -> None:
        left = self.total_steps - position.step
        self.journal.record(position.step, self.total_steps, metrics, self.pace.eta_seconds(left))

    def _assert_all_reached(self) -> None:
        names = unreached(self.optimizer, self.parameters)
        if names:
            remedy = (
                "leave these modules out of spec.method.lora.targetModules"
                if self.adapter
                else "set spec.method.lora and name modules that it uses as targetModules"
            )
            raise UserError(
                f"{len(names)} of {len(self.parameters)} trained tensors got no gradient in "
                f"{REACHED_IN_STEPS} steps ({_some(names)}), because the model does not use them: "
                f"{remedy}."
            )

    def _assert_finite_weights(self) -> None:
        """No loss has been computed with what the last step made of the weights."""
        broken = [name for name, value in self.parameters.items() if not value.isfinite().all()]
        if broken:
            raise NonFiniteLossError(
                f"{len(broken)} of {len(self.parameters)} trained tensors are NaN or infinite "
                f"({_some(broken)}): {self._lower_rate()}."
            )

    def _lower_rate(self) -> str:
        rate = self.training.learning_rate
        return f"lower spec.training.learningRate (now {rate:g}) or check the data"

    def _save_checkpoint(self, position: Position) -> None:
        if position.step == self.saved_step:
            return
        self.saved_step = position.step
        if self.group.is_main:
            checkpoint.save(
                self.workspace.checkpoints,
                plan_hash=self.plan.plan_hash,
                position=position,
                parameters=self.parameters,
                optimizer=self.optimizer,
                keep=self.training.checkpoint.keep,
            )
            self.journal.say(f"checkpoint after step {position.step}")

    def _preempt(self, position: Position) -> None:
        if position.step == 0:
            raise PreemptedError("Stopped before the first step.")
        self._save_checkpoint(position)
        # A rank that ends early would look like a failure to the one that still writes.
        self.group.barrier()
        raise PreemptedError(
            f"Stopped after step {position.step} of {self.total_steps}; a checkpoint is saved."
        )

    def _finish(self, position: Position, resumed_from: int | None) -> tuple[str, dict[str, Any]]:
        peak = self.group.maximum(float(peak_memory_bytes(self.device)))
        key = "adapter" if self.adapter else "merged"
        if self.group.is_main:
            if self.adapter:
                export.save_adapter(self.adapter, self.plan.model, self.workspace)
            else:
                export.save_model(self.model, self.workspace)
        self.group.barrier()
        metrics = position.metrics
        result: dict[str, Any] = {
            "steps": position.step,
            "totalSteps": self.total_steps,
            "epoch": round(position.epoch, 4),
            "loss": metrics.get("loss"),
            "validationLoss": metrics.get("validation_loss"),
            "baseValidationLoss": metrics.get("base_validation_loss"),
            "tokensPerSecond": round(self.pace.tokens_per_second, 1) or None,
            "trainableParameters": self.trainable,
            "precision": self.dtype_name,
            "peakMemoryBytes": int(peak),
            "resumedFromStep": resumed_from,
            key: key,
        }
        return summary(position, self.pace), {
            name: value for name, value in result.items() if value is not None
        }


def summary(position: Position, pace: Pace) -> str:
    """One sentence: `120 steps, validation loss 2.91 → 2.13 (base → tuned), 2,310 tokens/s.`"""
    metrics = position.metrics
    parts = [f"{position.step} steps"]
    if "validation_loss" in metrics:
        before, after = metrics["base_validation_loss"], metrics["validation_loss"]
        parts.append(f"validation loss {before:.2f} → {after:.2f} (base → tuned)")
    elif "loss" in metrics:
        first, last = metrics["first_loss"], metrics["loss"]
        parts.append(f"loss {first:.2f} → {last:.2f} (first → last step)")
    if pace.tokens_per_second:
        parts.append(f"{pace.tokens_per_second:,.0f} tokens/s")
    return ", ".join(parts) + "."


def _weighted_mean(values: list[tuple[float, int]]) -> float:
    weight = sum(count for _, count in values)
    return sum(value * count for value, count in values) / max(1, weight)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")

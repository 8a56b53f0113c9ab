"""What a run loads once and every step uses: data, model, what of it is trained, and the engine.

The order matters and is explained where it does. Nothing here steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from finetune_trainer.architecture import head_modules
from finetune_trainer.data.examples import Examples
from finetune_trainer.data.packing import total_steps
from finetune_trainer.prepare import loss
from finetune_trainer.run import Run
from finetune_trainer.train.custom_loss import load_loss
from finetune_trainer.train.device import compute_dtype
from finetune_trainer.train.engines.choice import Choice, choose, make_engine
from finetune_trainer.train.engines.engine import Engine, MakeOptimizer
from finetune_trainer.train.journal import Journal
from finetune_trainer.train.methods.adapter import add_adapter
from finetune_trainer.train.methods.initialization import starts_from_base, take_out_of_base
from finetune_trainer.train.methods.partial import freeze_others
from finetune_trainer.train.methods.quantization import nf4, quantize_later
from finetune_trainer.train.model import load_base, stored_dtype, trainable_parameters
from finetune_trainer.train.neftune import add_noise
from finetune_trainer.train.objectives.choice import make_objective
from finetune_trainer.train.objectives.objective import Objective
from finetune_trainer.train.optimizer import make_optimizer
from finetune_trainer.train.parallel import Group
from finetune_trainer.train.prepared import load_examples, require_whole_model
from finetune_trainer.train.probe import Abilities, probe
from finetune_trainer.train.speed.lora import use_fused_lora
from finetune_trainer.train.speed.techniques import enabled
from finetune_trainer.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Context:
    """What every part of a run in this process may ask: the plan, its files, its place."""

    run: Run
    workspace: Workspace
    group: Group
    journal: Journal

    @property
    def device(self) -> torch.device:
        return self.group.device


@dataclass(frozen=True, slots=True)
class Data:
    """What `prepare` left; `total_steps` are those of the whole run."""

    train: Examples
    validation: Examples | None
    total_steps: int

    @property
    def splits(self) -> dict[str, Examples]:
        """The examples by the name of their split."""
        both = {"train": self.train, "validation": self.validation}
        return {name: examples for name, examples in both.items() if examples is not None}


@dataclass(frozen=True, slots=True)
class Trained:
    """A model and what trains it. `precision` names the format of matrix products, `choice` says
    which engine it is.
    """

    model: PreTrainedModel
    adapter: PeftModel | None
    objective: Objective[Any]
    engine: Engine
    choice: Choice
    precision: str
    trainable: int


def load_data(context: Context) -> Data:
    """The prepared examples.

    Raises:
        UserError: they are those of another plan, damaged or none.
    """
    training = context.run.training
    train, validation = load_examples(context.workspace, context.run.plan_hash)
    return Data(
        train=train,
        validation=validation,
        total_steps=total_steps(
            train.lengths,
            capacity=training.sequence_length,
            packing=training.packing,
            seed=training.seed,
            sequences_per_step=training.sequences_per_step,
            epochs=training.epochs,
            max_steps=training.max_steps,
        ),
    )


class _Formats(NamedTuple):
    """Number formats: of matrix `products`, of `autocast` where that is not the parameters' own,
    and of what is `frozen`.
    """

    products: torch.dtype
    autocast: torch.dtype | None
    frozen: torch.dtype


def load_model(context: Context) -> Trained:
    """The model with what is trained of it, on this process's device.

    Raises:
        UserError: model and plan do not fit together.
    """
    run = context.run
    require_whole_model(context.workspace)
    formats = _formats(context)
    choice = choose(run, context.group, context.workspace, formats.products)
    model, adapter = _load_with_adapter(context, choice, formats.frozen)
    # Before an engine may leave this rank slices of them.
    trainable = sum(parameter.numel() for parameter in trainable_parameters(model).values())
    engine = make_engine(choice, run, model, _optimizer(run), context.group, formats.frozen)
    # What it can do is found out by comparing with its stock form, so before anything replaces that
    # and after it has been placed: what a rank cannot hold it cannot try alone.
    abilities = Abilities(shared_rows=False, separable_head=False, shared_prefixes=False)
    if not run.task.has_labels:
        abilities = _find_out(context, engine, model, formats)
    if run.method.lora and enabled("lora"):
        use_fused_lora(model)
    if run.training.neftune_noise_alpha:
        # Noise of a common beginning would be the same for all that share it.
        abilities = replace(abilities, shared_prefixes=False)
        add_noise(model, run.training.neftune_noise_alpha)
    own = None
    if run.training.loss:
        own = load_loss(run.training.loss, loss.directory(context.workspace))
    objective = make_objective(
        run,
        model,
        abilities,
        adapter=adapter,
        autocast=formats.autocast,
        device=context.device,
        trained_by=own,
    )
    trained = Trained(
        model=model,
        adapter=adapter,
        objective=objective,
        engine=engine,
        choice=choice,
        precision=str(formats.products).removeprefix("torch."),
        trainable=trainable,
    )
    _say_what_runs(context, trained)
    return trained


def _formats(context: Context) -> _Formats:
    """What is trained stays in float32; a full model is then computed with under autocast. What of
    it is frozen is published as it was, so it is never rounded.
    """
    full = context.run.method.full
    products = compute_dtype(context.run.training.precision, context.device)
    if not full or products is torch.float32:
        return _Formats(products, None, products)
    unrounded = full.trainable and stored_dtype(context.workspace.model) is products
    return _Formats(products, products, products if unrounded else torch.float32)


def _optimizer(run: Run) -> MakeOptimizer:
    lora = run.method.lora
    return partial(
        make_optimizer,
        settings=run.training.optimizer,
        weight_decay=run.training.weight_decay,
        lora_plus_ratio=lora.lora_plus_ratio if lora else 1.0,
    )


def _load_with_adapter(
    context: Context, choice: Choice, frozen: torch.dtype
) -> tuple[PreTrainedModel, PeftModel | None]:
    """The model as `choice` wants it read, with all that is trained marked as such: in it, or in an
    adapter beside it.
    """
    run, seed = context.run, context.run.training.seed
    torch.manual_seed(seed)  # for a head that begins at random
    model = _load_base(context, choice, frozen)
    torch.manual_seed(seed)
    adapter = add_adapter(model, run.method, context.workspace.model, run.task)
    if run.method.full and (chosen := run.method.full.trainable):
        freeze_others(model, [*chosen, *head_modules(model, run.task)])
    lora = run.method.lora
    if adapter and lora and starts_from_base(lora.initialization):
        take_out_of_base(adapter, lora.initialization, context.workspace.initial, context.group)
    if run.training.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model, adapter


def _load_base(context: Context, choice: Choice, frozen: torch.dtype) -> PreTrainedModel:
    run, directory = context.run, context.workspace.model
    lora, whole = run.method.lora, run.method.modules_to_save
    device = torch.device("cpu") if choice.in_slices else context.device
    if not run.method.quantization:
        dtype: torch.dtype | Literal["auto"] = "auto" if choice.in_slices else frozen
        return load_base(directory, dtype=dtype, device=device, task=run.task)
    if choice.in_slices and not (lora and lora.dora):
        model = load_base(directory, dtype="auto", device=device, task=run.task)
        quantize_later(model, whole, frozen)
        return model
    # DoRA's norms begin as those of quantized weights, so these have to be there.
    quantization = nf4(directory, whole, frozen)
    return load_base(
        directory, dtype=frozen, device=device, quantization=quantization, task=run.task
    )


def _find_out(
    context: Context, engine: Engine, model: PreTrainedModel, formats: _Formats
) -> Abilities:
    run = context.run
    mixed = formats.autocast is not None and formats.frozen is not torch.float32
    with torch.autocast(context.device.type, dtype=formats.autocast, enabled=mixed):
        abilities = engine.evaluate(probe, model, run.training.sequence_length, context.device)
    if not abilities.shared_rows:
        what = "This method" if run.method.virtual_tokens else "This architecture"
        context.journal.say(
            f"{what} cannot keep documents apart in one row: they are padded, one a row."
        )
    return abilities


def _say_what_runs(context: Context, trained: Trained) -> None:
    asked = context.run.resources.gpus_per_node
    if asked and context.device.type == "cpu":
        context.journal.say(
            f"WARNING: spec.resources.gpusPerNode is {asked}, but this pod has no accelerator: "
            "training on the CPU."
        )
    context.journal.say(
        f"{trained.trainable:,} trainable parameters, {trained.precision} on "
        f"{context.device.type}, {context.group.world_size} process(es), "
        f"{torch.get_num_threads()} threads each"
    )
    context.journal.say(f"strategy {trained.choice.strategy}: {trained.choice.why}")

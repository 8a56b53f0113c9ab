"""What must be true of a training, and the sentence that ends it when it is not.

Each guard is one question; when it is asked is the recipe's business.
"""

from __future__ import annotations

import math

from finetune_trainer.outcome import NonFiniteLossError, UserError
from finetune_trainer.run import Method, Run
from finetune_trainer.train.engines.engine import Engine

# LoRA's A has no gradient until B is no longer zero, which takes the first step.
REACHED_IN_STEPS = 2


def require_work_for_all(run: Run, processes: int) -> None:
    """Every process gets a sequence of a step.

    Raises:
        UserError: there are more processes than sequences.
    """
    sequences = run.training.sequences_per_step
    if sequences < processes:
        raise UserError(
            f"spec.training.sequencesPerStep is {sequences}, too few for {processes} processes "
            f"(spec.resources.nodes times spec.resources.gpusPerNode): raise it to {processes} "
            "or a multiple, or ask for fewer accelerators."
        )


def require_all_reached(engine: Engine, method: Method, *, steps: int) -> None:
    """Every trained tensor has had a gradient in the `steps` so far: asked after the first, where
    one that is not used at all would keep the ranks from the next, and after `REACHED_IN_STEPS`.

    Raises:
        UserError: the model does not use some of what is trained.
    """
    names = engine.unreached() if steps == REACHED_IN_STEPS else engine.unused()
    if names:
        part = bool(method.full and method.full.trainable)
        remedy = (
            "leave them out of spec.method.full.trainable"
            if part
            else f"leave these modules out of spec.method.{method.name}.targetModules"
            if method.makes_adapter
            else "set spec.method.lora and name modules that it uses as targetModules"
        )
        when = "the first step" if steps == 1 else f"{steps} steps"
        raise UserError(
            f"{len(names)} of {len(engine.parameters)} trained tensors got no gradient in {when} "
            f"({_some(names)}), because the model does not use them: {remedy}."
        )


def require_finite_validation(loss: float, *, step: int, run: Run) -> None:
    """The validation loss after `step` steps is a number.

    Raises:
        NonFiniteLossError: it is not.
    """
    if math.isfinite(loss):
        return
    if step == 0:
        raise NonFiniteLossError(
            f"The validation loss is {loss:.4g} before the first step: the base model does "
            "not work with this precision or data; set spec.training.precision to Float32 "
            "or choose another spec.model.source."
        )
    raise NonFiniteLossError(
        f"The validation loss is {loss:.4g} after step {step}: {_lower_rate(run)}."
    )


def require_finite_weights(engine: Engine, run: Run) -> None:
    """No trained weight is NaN or infinite: no loss has been computed with what the last step made
    of them.

    Raises:
        NonFiniteLossError: some are.
    """
    broken = engine.broken()
    if broken:
        raise NonFiniteLossError(
            f"{len(broken)} of {len(engine.parameters)} trained tensors are NaN or infinite "
            f"({_some(broken)}): {_lower_rate(run)}."
        )


def _lower_rate(run: Run) -> str:
    return (
        f"lower spec.training.learningRate (now {run.training.learning_rate:g}) or check the data"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")

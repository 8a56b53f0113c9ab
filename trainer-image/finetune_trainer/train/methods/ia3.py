"""Trained factors for what some linear layers write or read (IA³, Liu et al., arXiv:2205.05638), by
PEFT.

They begin at one, so the model computes what it did.
"""

from __future__ import annotations

from peft import IA3Config, PeftModel, get_peft_model
from peft.utils.constants import (
    TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING,
    TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
)
from transformers import PreTrainedModel

from finetune_trainer.outcome import UserError
from finetune_trainer.run import Ia3
from finetune_trainer.train.methods.modules import kinds_of, linear_names, require_modules

_FIELD = "spec.method.ia3.targetModules"


def add_ia3(model: PreTrainedModel, ia3: Ia3) -> PeftModel:
    """`model`, changed in place: frozen, with a factor for every output of the target modules, or
    for every input of those that are feed-forward modules.

    Raises:
        UserError: a name is none of the model's linear modules, or a feed-forward module no target,
            or no name is given and PEFT knows none for the architecture.
    """
    linear = f"its linear modules are: {', '.join(linear_names(model))}."
    kind = model.config.get_text_config().model_type
    targets = ia3.target_modules or TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING.get(kind)
    if targets is None:
        raise UserError(
            f"{_FIELD} has to be set, because there are no usual ones for {kind}; {linear}"
        )
    require_modules(model, _FIELD, targets)
    feedforward = ia3.feedforward_modules
    if feedforward is None:
        usual = TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.get(kind, [])
        feedforward = [name for name in targets if name in usual]
    if others := [name for name in feedforward if name not in targets]:
        raise UserError(
            f"spec.method.ia3.feedforwardModules names {', '.join(others)}, which {_FIELD} does "
            "not: add it there."
        )
    config = IA3Config(
        target_modules=list(targets),
        feedforward_modules=list(feedforward),
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config, autocast_adapter_dtype=True)
    except (ValueError, TypeError) as error:
        found = "; ".join(f"{name} is {', '.join(kinds_of(model, name))}" for name in targets)
        raise UserError(f"{_FIELD} names what IA3 cannot scale ({found}); {linear}") from error

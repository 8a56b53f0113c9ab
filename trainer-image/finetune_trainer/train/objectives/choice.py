"""Which objective a plan asks for, and what it is given."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from finetune_trainer.run import Preference as PreferenceSettings
from finetune_trainer.run import Run, Task
from finetune_trainer.train.custom_loss import TokenLoss
from finetune_trainer.train.methods.initialization import starts_from_base
from finetune_trainer.train.objectives.answers import Rows
from finetune_trainer.train.objectives.classification import Classification
from finetune_trainer.train.objectives.generation import Generation
from finetune_trainer.train.objectives.kto import Kto, KtoLoss
from finetune_trainer.train.objectives.objective import Objective
from finetune_trainer.train.objectives.preference import Preference, PreferenceLoss
from finetune_trainer.train.objectives.token_classification import TokenClassification
from finetune_trainer.train.probe import Abilities


def make_objective(
    run: Run,
    model: PreTrainedModel,
    abilities: Abilities,
    *,
    adapter: PeftModel | None,
    autocast: torch.dtype | None,
    device: torch.device,
    trained_by: TokenLoss | None,
) -> Objective[Any]:
    """The objective of `run` for `model`, of which `adapter`, if there is one, is trained.

    `autocast` is the format of matrix products where it is not the parameters' own; `trained_by` a
    loss in place of cross-entropy.
    """
    capacity = run.training.sequence_length
    match run.task:
        case Task.GENERATION:
            return Generation(
                model,
                abilities,
                capacity=capacity,
                autocast=autocast,
                device=device,
                virtual_tokens=run.method.virtual_tokens,
                trained_by=trained_by,
            )
        case Task.PREFERENCE:
            settings = run.training.preference or PreferenceSettings()
            rows = Rows.of(abilities, capacity, device)
            if settings.loss == "KTO":
                kto = KtoLoss(model, abilities, settings, adapter=adapter, autocast=autocast)
                return Kto(kto, rows, remember=_remembered(run))
            pairs = PreferenceLoss(model, abilities, settings, adapter=adapter, autocast=autocast)
            return Preference(pairs, rows, remember=_remembered(run))
        case Task.CLASSIFICATION:
            return Classification(model, capacity=capacity, autocast=autocast, device=device)
        case Task.TOKEN_CLASSIFICATION:
            return TokenClassification(model, capacity=capacity, autocast=autocast, device=device)


def _remembered(run: Run) -> frozenset[str]:
    """The splits whose reference is computed before the first step: those that are seen more than
    once, or all where no adapter can be switched off to have the base again.
    """
    lora = run.method.lora
    # A base that the adapters' beginning was taken out of is none without them.
    again = lora is None or starts_from_base(lora.initialization)
    again = again or (run.training.epochs or 1) > 1
    return frozenset({"train", "validation"} if again else {"validation"})

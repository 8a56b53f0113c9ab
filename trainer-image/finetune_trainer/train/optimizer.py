"""The optimizer over the trainable parameters, its gradient norm, and its state as named tensors.

Hyperparameters are the plan's; the learning rate is set by the recipe before every step
(`schedule.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import Adafactor

from finetune_trainer.run import Optimizer as Settings

# Of a parameter group: what the plan's learning rate is multiplied by.
RATE_FACTOR = "rate_factor"
# Above what Adafactor's mean of squares is where all gradients were zero.
ADAFACTOR_NOTHING = 1e-29
_ADAMW = Settings()
_LORA_B = (".lora_B.", ".lora_embedding_B.")


def make_optimizer(
    parameters: dict[str, nn.Parameter],
    settings: Settings = _ADAMW,
    *,
    weight_decay: float,
    lora_plus_ratio: float = 1.0,
) -> torch.optim.Optimizer:
    """The optimizer of `settings`; vectors (norms, biases) do not decay.

    * AdamW (Loshchilov & Hutter, arXiv:1711.05101), torch's fused one;
    * Adafactor (Shazeer & Stern, arXiv:1804.04235), transformers', with the plan's rate instead of
      one of its own;
    * RMSprop (Hinton, 2012) and SGD with momentum, torch's.

    The adapters' B learns `lora_plus_ratio` times as fast as A (LoRA+, Hayou et al.,
    arXiv:2402.12354).
    """
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        decay = weight_decay if parameter.ndim > 1 else 0.0
        factor = lora_plus_ratio if any(part in name for part in _LORA_B) else 1.0
        members.setdefault((decay, factor), []).append(parameter)
    groups = [
        {"params": group, "weight_decay": decay, RATE_FACTOR: factor}
        for (decay, factor), group in members.items()
    ]
    # Before every step the rate is set; until then any will do.
    match settings.type:
        case "AdamW":
            betas = (settings.beta1, settings.beta2)
            return torch.optim.AdamW(groups, betas=betas, eps=settings.epsilon, fused=True)
        case "Adafactor":
            return Adafactor(groups, lr=1e-3, scale_parameter=False, relative_step=False)
        case "RMSprop":
            return torch.optim.RMSprop(groups, eps=settings.epsilon)
        case "SGD":
            return torch.optim.SGD(groups, momentum=settings.momentum)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of the next step, for all groups, each by its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group[RATE_FACTOR]


def clip(parameters: dict[str, nn.Parameter], maximum: float) -> float:
    """Scale all gradients so that their common L2 norm is at most `maximum` (0: do not); the norm
    before.
    """
    gradients = [parameter.grad for parameter in parameters.values() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if maximum > 0:
        torch.nn.utils.clip_grads_with_norm_(list(parameters.values()), maximum, norm)
    return float(norm)


def arrived(state: Mapping[str, object]) -> Tensor | None:
    """Of one parameter's `state`, what is nonzero where a gradient other than zero has arrived in
    any step so far; None before the first.

    The moments tell it, not the weights: rounding can swallow a small update, but a gradient that
    arrived stays seen, also in a resumed run.
    """
    for key in ("exp_avg", "momentum_buffer", "square_avg"):
        if isinstance(moment := state.get(key), Tensor):
            return moment
    for key in ("exp_avg_sq", "exp_avg_sq_row"):
        if isinstance(moment := state.get(key), Tensor):
            # Adafactor adds 1e-30 to every square.
            return moment > ADAFACTOR_NOTHING
    return None


def state_tensors(
    optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter]
) -> dict[str, Tensor]:
    """The optimizer's state as `NAME/KEY` → tensor, by parameter name, not by order."""
    return {
        f"{name}/{key}": value if isinstance(value, Tensor) else torch.tensor(value)
        for name, parameter in parameters.items()
        for key, value in optimizer.state[parameter].items()
        if value is not None
    }


def load_state_tensors(
    optimizer: torch.optim.Optimizer,
    parameters: dict[str, nn.Parameter],
    tensors: dict[str, Tensor],
) -> None:
    """Take back what `state_tensors` gave: each in memory of its own, beside its parameter."""
    for key, value in tensors.items():
        name, _, part = key.rpartition("/")
        parameter = parameters[name]
        # AdamW keeps its step count in float32 beside the parameter when fused; Adafactor as an
        # integer of Python's.
        counted = not value.ndim and not value.is_floating_point()
        # A copy in any case: while a file is mapped, its directory cannot be removed from NFS.
        optimizer.state[parameter][part] = (
            value.item() if counted else value.to(parameter.device, copy=True)
        )

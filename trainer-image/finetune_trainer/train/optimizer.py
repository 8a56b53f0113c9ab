"""AdamW over the trainable parameters, its gradient norm, and its state as named tensors.

Hyperparameters are the plan's; the learning rate is set by the recipe before every step
(`schedule.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Of a parameter group: what the plan's learning rate is multiplied by.
RATE_FACTOR = "rate_factor"
_LORA_B = (".lora_B.", ".lora_embedding_B.")


def adamw(
    parameters: dict[str, nn.Parameter], *, weight_decay: float, lora_plus_ratio: float = 1.0
) -> torch.optim.AdamW:
    """Fused AdamW (Loshchilov & Hutter, arXiv:1711.05101); vectors (norms, biases) do not decay.

    The adapters' B learns `lora_plus_ratio` times as fast as A (LoRA+, Hayou et al.,
    arXiv:2402.12354).
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        decay = weight_decay if parameter.ndim > 1 else 0.0
        factor = lora_plus_ratio if any(part in name for part in _LORA_B) else 1.0
        groups.setdefault((decay, factor), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": members, "weight_decay": decay, RATE_FACTOR: factor}
            for (decay, factor), members in groups.items()
        ],
        fused=True,
    )


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


def unreached(optimizer: torch.optim.AdamW, parameters: dict[str, nn.Parameter]) -> list[str]:
    """Names of the parameters that have had no gradient, or one of zeros, in every step so far.

    The first moment tells it, not the weights: rounding can swallow a small update, but a gradient
    that arrived stays seen, also in a resumed run.
    """
    moments = {
        name: optimizer.state[parameter].get("exp_avg") for name, parameter in parameters.items()
    }
    return [name for name, moment in moments.items() if moment is None or not moment.any()]


def state_tensors(
    optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter]
) -> dict[str, Tensor]:
    """The optimizer's state as `NAME/KEY` → tensor, by parameter name, not by order."""
    return {
        f"{name}/{key}": value
        for name, parameter in parameters.items()
        for key, value in optimizer.state[parameter].items()
    }


def load_state_tensors(
    optimizer: torch.optim.Optimizer,
    parameters: dict[str, nn.Parameter],
    tensors: dict[str, Tensor],
) -> None:
    """Take back what `state_tensors` gave; torch moves each tensor to where it is needed."""
    for key, value in tensors.items():
        name, _, part = key.rpartition("/")
        parameter = parameters[name]
        # AdamW keeps its step count in float32 beside the parameter when fused.
        optimizer.state[parameter][part] = value.to(parameter.device)

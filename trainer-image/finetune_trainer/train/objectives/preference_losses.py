"""What is minimized over answers that are preferred or rejected, desirable or not: pure functions
of their log-probabilities.

All tensors are [pairs], or [answers], float32: log p(answer | prompt), the sum over an answer's
tokens, or their mean where a function says so. Where the values come from is the business of
`preference.py` and `kto.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

# 1 - p below it is 0 in float32, and the odds would have no gradient that is a number.
NEARLY_CERTAIN = -1e-7


class Pair(NamedTuple):
    """A value of each pair's two answers."""

    chosen: Tensor
    rejected: Tensor


class Judged(NamedTuple):
    """The loss of each pair, and the rewards that the loss implies for its two answers."""

    losses: Tensor
    rewards: Pair


def dpo(policy: Pair, reference: Pair, *, beta: float) -> Judged:
    """Direct preference optimization (Rafailov et al., arXiv:2305.18290, equation 7):
    -log sigmoid(r_chosen - r_rejected) with the reward r = beta (log p - log p_reference), of sums.
    """
    rewards = Pair(*(beta * (mine - base) for mine, base in zip(policy, reference, strict=True)))
    return Judged(-logsigmoid(rewards.chosen - rewards.rejected), rewards)


def simpo(policy: Pair, *, beta: float, gamma: float) -> Judged:
    """Simple preference optimization (Meng et al., arXiv:2405.14734, equation 6):
    -log sigmoid(r_chosen - r_rejected - gamma) with the reward r = beta log p, of means, and no
    reference.
    """
    rewards = Pair(beta * policy.chosen, beta * policy.rejected)
    return Judged(-logsigmoid(rewards.chosen - rewards.rejected - gamma), rewards)


def orpo(policy: Pair, *, beta: float) -> Judged:
    """Odds ratio preference optimization (Hong et al., arXiv:2403.07691, equations 6 and 7):
    -log p_chosen - beta log sigmoid(log odds_chosen - log odds_rejected), of means, with
    odds = p / (1 - p); beta is the paper's lambda.
    """
    odds = Pair(_log_odds(policy.chosen), _log_odds(policy.rejected))
    preferred = logsigmoid(odds.chosen - odds.rejected)
    rewards = Pair(beta * policy.chosen, beta * policy.rejected)
    return Judged(-policy.chosen - beta * preferred, rewards)


def kto(
    rewards: Tensor, desirable: Tensor, *, zero: Tensor, weights: tuple[float, float]
) -> Tensor:
    """Kahneman-Tversky optimization (Ethayarajh et al., arXiv:2402.01306, equations 7 and 8), the
    loss of each answer: weight (1 - sigmoid(r - z)) of a desirable one, weight (1 - sigmoid(z - r))
    of another, with the reward r = beta (log p - log p_reference), of sums.

    `zero` is the reference point z = beta KL, a constant; `weights` are those of desirable answers
    and of others, the paper's lambdas; `desirable` is of bool.
    """
    signs = torch.where(desirable, 1.0, -1.0)
    scales = torch.where(desirable, *weights)
    # 1 - sigmoid(x) = sigmoid(-x), without a difference of nearly equal numbers.
    return scales * torch.sigmoid(signs * (zero - rewards))


def _log_odds(log_probability: Tensor) -> Tensor:
    """log p - log(1 - p)."""
    bounded = log_probability.clamp(max=NEARLY_CERTAIN)
    return bounded - torch.log(-torch.expm1(bounded))

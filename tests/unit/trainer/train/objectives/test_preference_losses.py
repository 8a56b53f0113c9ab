"""The losses against their formulas as TRL has them, written out for single pairs."""

import math

import pytest
import torch

from finetune_trainer.train.objectives.preference_losses import Pair, dpo, kto, orpo, simpo

CHOSEN, REJECTED = (-1.5, -20.0, -0.3), (-2.5, -3.0, -0.30001)
BASE_CHOSEN, BASE_REJECTED = (-1.0, -25.0, -0.4), (-2.0, -3.5, -0.2)


def pair(chosen: tuple[float, ...], rejected: tuple[float, ...]) -> Pair:
    return Pair(torch.tensor(chosen), torch.tensor(rejected))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_dpo_is_trls_sigmoid_loss() -> None:
    judged = dpo(pair(CHOSEN, REJECTED), pair(BASE_CHOSEN, BASE_REJECTED), beta=0.3)
    for row, (c, r, bc, br) in enumerate(
        zip(CHOSEN, REJECTED, BASE_CHOSEN, BASE_REJECTED, strict=True)
    ):
        logits = (c - r) - (bc - br)
        assert float(judged.losses[row]) == pytest.approx(-math.log(sigmoid(0.3 * logits)))
        assert float(judged.rewards.chosen[row]) == pytest.approx(0.3 * (c - bc))
        assert float(judged.rewards.rejected[row]) == pytest.approx(0.3 * (r - br))


def test_dpo_starts_at_the_logarithm_of_two() -> None:
    same = pair(CHOSEN, REJECTED)
    assert dpo(same, same, beta=0.1).losses.tolist() == pytest.approx([math.log(2)] * 3)


def test_simpo_is_trls_cpo_loss_of_that_type() -> None:
    judged = simpo(pair(CHOSEN, REJECTED), beta=2.0, gamma=0.5)
    for row, (c, r) in enumerate(zip(CHOSEN, REJECTED, strict=True)):
        logits = (c - r) - 0.5 / 2.0
        assert float(judged.losses[row]) == pytest.approx(-math.log(sigmoid(2.0 * logits)))
        assert float(judged.rewards.chosen[row]) == pytest.approx(2.0 * c)


def test_orpo_is_likelihood_and_trls_odds_ratio() -> None:
    judged = orpo(pair(CHOSEN, REJECTED), beta=0.1)
    for row, (c, r) in enumerate(zip(CHOSEN, REJECTED, strict=True)):
        log_odds = (c - r) - (math.log1p(-math.exp(c)) - math.log1p(-math.exp(r)))
        expected = -c - 0.1 * math.log(sigmoid(log_odds))
        assert float(judged.losses[row]) == pytest.approx(expected, rel=1e-5)
        assert float(judged.rewards.rejected[row]) == pytest.approx(0.1 * r)


def test_orpo_has_a_gradient_where_the_model_is_certain() -> None:
    chosen = torch.tensor([-1e-12, 0.0], requires_grad=True)
    rejected = torch.tensor([0.0, -30.0], requires_grad=True)
    judged = orpo(Pair(chosen, rejected), beta=0.1)
    judged.losses.sum().backward()
    for tensor in (judged.losses, chosen.grad, rejected.grad):
        assert torch.isfinite(tensor).all()


def test_kto_is_trls_loss_of_that_type() -> None:
    desirable = (True, False, True)
    rewards = tuple(0.3 * (mine - base) for mine, base in zip(CHOSEN, BASE_CHOSEN, strict=True))
    losses = kto(
        torch.tensor(rewards),
        torch.tensor(desirable),
        zero=torch.tensor(0.3 * 1.5),
        weights=(1.5, 0.5),
    )
    for loss, reward, good in zip(losses.tolist(), rewards, desirable, strict=True):
        value = sigmoid(reward - 0.3 * 1.5) if good else sigmoid(0.3 * 1.5 - reward)
        assert loss == pytest.approx((1.5 if good else 0.5) * (1 - value), rel=1e-6)


def test_kto_has_a_gradient_where_an_answer_is_far_better_than_the_base() -> None:
    rewards = torch.tensor([30.0, -30.0], requires_grad=True)
    desirable = torch.tensor([True, False])
    kto(rewards, desirable, zero=torch.tensor(0.0), weights=(1.0, 1.0)).sum().backward()
    assert rewards.grad is not None
    assert rewards.grad.tolist() == pytest.approx([-math.exp(-30), math.exp(-30)], rel=1e-4)

"""What the head writes in eight bits, and what of it is computed without rounding."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import CohereConfig, CohereForCausalLM

from finetune_trainer.train.batches import collate
from finetune_trainer.train.probe import probe
from finetune_trainer.train.speed.head import Head, decode
from unit.trainer.tiny import SMALL, tiny_model
from unit.trainer.train.made import random_examples

CPU = torch.device("cpu")
LONGEST = 24


def test_log_probabilities_and_gradients_are_those_of_torch() -> None:
    torch.manual_seed(0)
    given = (8 * torch.randn(30, 50)).requires_grad_()
    stock = given.detach().clone().requires_grad_()
    targets, factors = torch.randint(50, (30,)), torch.randn(30)
    head = Head(tiny_model(), separable=True)
    values = head.log_probabilities(given, torch.empty(30, 32), targets)
    expected = -cross_entropy(stock, targets, reduction="none")
    torch.testing.assert_close(values, expected)
    (values * factors).sum().backward()
    (expected * factors).sum().backward()
    torch.testing.assert_close(given.grad, stock.grad)


def test_of_logits_in_bfloat16_the_targets_are_not_rounded() -> None:
    model = tiny_model(tie_word_embeddings=False).bfloat16().requires_grad_(False)
    torch.manual_seed(0)
    rows = (8 * torch.randn(30, 32)).bfloat16()
    targets = torch.randint(len(model.lm_head.weight), (30,))
    rounded = (rows @ model.lm_head.weight.T).requires_grad_()
    value = Head(model, separable=True, plain=True).log_probabilities(rounded, rows, targets)
    value.sum().backward()
    places = targets[:, None]
    unrounded = (rows.float() @ model.lm_head.weight.float().T).gather(1, places)
    wanted = rounded.detach().float().scatter(1, places, unrounded).requires_grad_()
    expected = -cross_entropy(wanted, targets, reduction="none")
    expected.sum().backward()
    torch.testing.assert_close(value, expected)
    # The others' probabilities still are of the sum with the rounded one.
    torch.testing.assert_close(rounded.grad.float(), wanted.grad, rtol=0, atol=0.02)
    torch.testing.assert_close(
        rounded.grad.gather(1, places).float(), wanted.grad.gather(1, places), rtol=1e-2, atol=1e-3
    )


@pytest.mark.parametrize("tied", [True, False])
def test_a_frozen_plain_head_in_bfloat16_tells_them(tied: bool) -> None:
    model = tiny_model(tie_word_embeddings=tied).bfloat16().eval().requires_grad_(False)
    batch = collate(random_examples(8, longest=60), padded=False, device=CPU)
    assert probe(model, 64).plain_head
    with torch.no_grad():
        rows = decode(model, batch).last_hidden_state[0, batch.positions]
        exact = (rows.float() @ model.lm_head.weight.float().T).log_softmax(-1)
        exact = exact.gather(1, batch.targets[:, None]).squeeze(1)
        spread = []
        for plain in (True, False):
            head = Head(model, separable=True, plain=plain)
            selected = head.select(batch)
            logits = selected.logits(selected.rows)
            found = head.log_probabilities(logits, selected.rows, batch.targets)
            spread.append(float((found - exact).std()))
    assert spread[0] < 0.5 * spread[1]


def test_a_head_that_is_trained_or_scaled_is_not_plain() -> None:
    assert not probe(tiny_model().bfloat16().eval(), LONGEST).plain_head
    torch.manual_seed(0)
    scaled = CohereForCausalLM(CohereConfig(**SMALL, logit_scale=0.25)).eval()
    assert not probe(scaled.requires_grad_(False), LONGEST).plain_head

"""Attention of long segments: what the stock kernel computes document by document, nothing else."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from finetune_trainer.data.examples import Example
from finetune_trainer.train.batches import collate
from finetune_trainer.train.speed import layout, stretches
from finetune_trainer.train.speed.blocks import block_attention
from finetune_trainer.train.speed.layout import Layout

CPU = torch.device("cpu")
KEY_HEADS, GROUPS, WIDTH = 2, 3, 16


def documents(*lengths: int, prefix: int = 0) -> list[Example]:
    """Random documents that share their first `prefix` tokens."""
    draw = np.random.default_rng(0)
    common = draw.integers(0, 1000, prefix)
    made = []
    for number, length in enumerate(lengths):
        own = draw.integers(0, 1000, length - prefix)
        own[0] = 2000 + number
        tokens = np.concatenate([common, own]).astype(np.int32)
        made.append(Example(tokens=tokens, supervised=np.ones(length, dtype=bool)))
    return made


def laid_out(examples: list[Example]) -> Layout:
    plan = collate(examples, padded=False, device=CPU).layout
    assert plan is not None
    return plan


def inputs(
    plan: Layout, dtype: torch.dtype = torch.float32, sharpness: float = 1.0
) -> list[Tensor]:
    """Query, key and value of the row, the query's and the key's first token an attention sink."""
    torch.manual_seed(0)
    heads = (KEY_HEADS * GROUPS, KEY_HEADS, KEY_HEADS)
    query, key, value = (torch.randn(1, each, plan.length, WIDTH) for each in heads)
    key[:, :, 0] *= 4
    return [each.to(dtype).requires_grad_() for each in (query * sharpness, key, value)]


def ours(tensors: list[Tensor], plan: Layout, window: int) -> Tensor:
    query, key, value = tensors
    return block_attention(query, key, value, plan.handle(), WIDTH**-0.5, window)[0]


def stock(tensors: list[Tensor], plan: Layout, window: int) -> list[Tensor]:
    """[length, Hq, D] of each document."""
    results = []
    for rows in plan.forest.rows:
        query, key, value = (each[:, :, torch.from_numpy(np.asarray(rows))] for each in tensors)
        distance = torch.arange(len(rows))[:, None] - torch.arange(len(rows))
        seen = (distance >= 0) & (distance < (window or len(rows)))
        made = scaled_dot_product_attention(query, key, value, seen, enable_gqa=True)
        results.append(made[0].transpose(0, 1))
    return results


@pytest.mark.parametrize("rows", [4, 60, 1000])
@pytest.mark.parametrize(
    ("lengths", "prefix", "window"),
    [
        pytest.param((90,), 0, 0, id="one"),
        pytest.param((90, 8, 70, 41), 0, 0, id="beside short ones"),
        pytest.param((90, 70, 60), 50, 0, id="with a common beginning"),
        pytest.param((60, 52, 53), 50, 0, id="short ends of a long beginning"),
        pytest.param((90, 8, 70), 0, 7, id="through a window"),
        pytest.param((90, 70), 50, 20, id="through a window, with a common beginning"),
    ],
)
def test_results_and_gradients_are_the_stock_kernels(
    monkeypatch: pytest.MonkeyPatch, lengths: tuple[int, ...], prefix: int, window: int, rows: int
) -> None:
    monkeypatch.setattr(layout, "KEPT_KEYS", 40)
    monkeypatch.setattr(stretches, "ROWS", rows)
    plan = laid_out(documents(*lengths, prefix=prefix))
    assert plan.stretches
    tensors = inputs(plan)
    expected = stock(tensors, plan, window)
    given = [torch.randn_like(each) for each in expected]
    wanted = torch.autograd.grad(expected, tensors, given)
    together = ours(tensors, plan, window)
    found = [together[torch.from_numpy(np.asarray(each))] for each in plan.forest.rows]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    for one, other in zip(torch.autograd.grad(found, tensors, given), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("sharpness", [1.0, 8.0])
def test_rounding_is_no_worse_than_the_stock_kernels(sharpness: float) -> None:
    """With scores up to 70 and more, which bfloat16 holds to a quarter."""
    plan = laid_out(documents(900))
    tensors = inputs(plan, torch.bfloat16, sharpness)
    exact = [each.detach().double().requires_grad_() for each in tensors]
    (expected,) = stock(exact, plan, 0)
    given = torch.randn(expected.shape)
    wanted = torch.autograd.grad(expected, exact, given.double())
    (theirs,) = stock(tensors, plan, 0)
    found = ours(tensors, plan, 0)
    assert off(found, expected) < 2 * off(theirs, expected)
    rounded = given.to(torch.bfloat16)
    pairs = zip(
        torch.autograd.grad(found, tensors, rounded),
        torch.autograd.grad(theirs, tensors, rounded),
        wanted,
        strict=True,
    )
    for mine, its, right in pairs:
        assert off(mine, right) < 2 * off(its, right)


def off(found: Tensor, right: Tensor) -> float:
    found, right = found.detach().double(), right.detach()
    return float((found - right).norm() / right.norm())


def test_a_changed_document_leaves_its_neighbour_bit_for_bit() -> None:
    plan = laid_out(documents(700, 800))
    tensors = inputs(plan)
    before = ours(tensors, plan, 0)
    changed = [each.detach().clone() for each in tensors]
    for each in changed:
        each[:, :, :700].neg_()
    after = ours(changed, plan, 0)
    assert not torch.equal(before[:700], after[:700])
    assert torch.equal(before[700:], after[700:])


def test_weights_of_a_stretch_are_not_kept() -> None:
    plan = laid_out(documents(700, 30))
    assert [each.queries for each in plan.stretches] == [slice(0, 700)]
    assert plan.kept == 30 * 30


def test_what_is_not_finite_stays_seen() -> None:
    plan = laid_out(documents(700))
    query, key, value = inputs(plan)
    with torch.no_grad():
        key[0, 0, 5, 0] = float("inf")
    assert not ours([query, key, value], plan, 0).isfinite().all()

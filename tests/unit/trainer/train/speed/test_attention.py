"""Documents that share a row compute what they would compute alone."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedModel

from finetune_trainer.data.examples import Example
from finetune_trainer.train.batches import collate
from finetune_trainer.train.speed import attention, blocks, layout
from finetune_trainer.train.speed.blocks import block_attention
from finetune_trainer.train.speed.head import model_inputs
from unit.trainer.tiny import SMALL, tiny_model
from unit.trainer.train.made import random_examples

CPU = torch.device("cpu")


@pytest.fixture
def model() -> LlamaForCausalLM:
    attention.register()
    return tiny_model().eval()


def token_losses_alone(model: PreTrainedModel, documents: list[Example]) -> list[torch.Tensor]:
    """Stock transformers, stock attention, one document a time, every position."""
    model.set_attn_implementation("sdpa")
    losses = []
    for document in documents:
        tokens = torch.from_numpy(document.tokens.astype(np.int64))[None]
        logits = model(input_ids=tokens).logits[0, :-1]
        losses.append(cross_entropy(logits, tokens[0, 1:], reduction="none"))
    return losses


def token_losses_together(model: PreTrainedModel, documents: list[Example]) -> list[torch.Tensor]:
    model.set_attn_implementation(attention.NAME)
    batch = collate(documents, padded=False, device=CPU)
    logits = model(**model_inputs(batch)).logits[0]
    rows = logits.split([len(document.tokens) for document in documents])
    return [
        cross_entropy(
            row[:-1], torch.from_numpy(document.tokens[1:].astype(np.int64)), reduction="none"
        )
        for row, document in zip(rows, documents, strict=True)
    ]


def test_token_losses_and_gradients_equal_those_of_unpacked_stock_attention(
    model: LlamaForCausalLM,
) -> None:
    documents = random_examples(5)
    gradients = []
    losses = []
    for compute in (token_losses_alone, token_losses_together):
        model.zero_grad()
        values = torch.cat(compute(model, documents))
        values.sum().backward()
        losses.append(values.detach())
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-5)
    for together, alone in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-4)


def gradients_together(model: PreTrainedModel, documents: list[Example]) -> list[torch.Tensor]:
    model.zero_grad()
    torch.cat(token_losses_together(model, documents)).sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        pytest.param(layout, "KEPT_KEYS", 10, id="documents as stretches"),
        pytest.param(blocks, "AT_A_TIME", 1, id="one head after the other"),
        pytest.param(layout, "TOGETHER", 1, id="small blocks, each by itself"),
        pytest.param(layout, "BLOCK", 5, id="several blocks a document"),
    ],
)
def test_how_the_work_is_cut_changes_nothing(
    model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, value: int
) -> None:
    documents = random_examples(6, longest=80)
    expected = gradients_together(model, documents)
    monkeypatch.setattr(module, name, value)
    for cut, whole in zip(gradients_together(model, documents), expected, strict=True):
        torch.testing.assert_close(cut, whole, rtol=1e-5, atol=1e-4)


def test_on_accelerators_and_with_dropout_long_documents_are_cut_as_all_are(
    model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = random_examples(6, longest=80)
    expected = gradients_together(model, documents)
    monkeypatch.setattr(layout, "KEPT_KEYS", 10)
    monkeypatch.setattr(attention, "BLOCKS", False)
    for cut, whole in zip(gradients_together(model, documents), expected, strict=True):
        torch.testing.assert_close(cut, whole, rtol=1e-5, atol=1e-4)


def test_the_weights_are_kept_for_the_backward_pass_and_only_for_one(
    model: LlamaForCausalLM,
) -> None:
    batch = collate(random_examples(3), padded=False, device=CPU)
    assert batch.layout is not None
    query = torch.randn(1, 2, batch.layout.length, 8, requires_grad=True)
    kept: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        block_attention(query, query, query, batch.layout.handle(), 1.0, 0)
        assert batch.layout.kept * 2 in kept
        kept.clear()
        with torch.no_grad():
            block_attention(query, query, query, batch.layout.handle(), 1.0, 0)
    assert not kept


@pytest.mark.parametrize("trained", [0, 1, 2])
def test_any_of_query_key_and_value_may_be_the_only_one_with_a_gradient(trained: int) -> None:
    batch = collate(random_examples(3), padded=False, device=CPU)
    assert batch.layout is not None
    torch.manual_seed(0)
    together = [torch.randn(1, 2, batch.layout.length, 8).requires_grad_() for _ in range(3)]
    alone = [each.detach().requires_grad_(i == trained) for i, each in enumerate(together)]
    given = torch.randn(1, batch.layout.length, 2, 8)
    for query, key, value in (together, alone):
        block_attention(query, key, value, batch.layout.handle(), 1.0, 0).backward(given)
    torch.testing.assert_close(alone[trained].grad, together[trained].grad)


def test_changing_one_document_does_not_touch_its_neighbour(model: LlamaForCausalLM) -> None:
    first, second = random_examples(2)
    changed = Example(tokens=np.flip(first.tokens).copy(), supervised=first.supervised)
    with torch.no_grad():
        before = token_losses_together(model, [first, second])
        after = token_losses_together(model, [changed, second])
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


def test_a_sliding_window_is_kept_inside_each_document() -> None:
    attention.register()
    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(**SMALL, sliding_window=3)).eval()
    documents = random_examples(3)
    with torch.no_grad():
        for together, alone in zip(
            token_losses_together(model, documents),
            token_losses_alone(model, documents),
            strict=True,
        ):
            torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_under_autocast_the_kernel_is_given_one_format(
    model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = random_examples(5)
    exact = torch.cat(token_losses_together(model, documents))
    seen: set[tuple[torch.dtype, ...]] = set()

    def watched(*arguments: Any) -> torch.Tensor:
        seen.add(tuple(tensor.dtype for tensor in arguments[:3]))
        return block_attention(*arguments)

    monkeypatch.setattr(attention, "block_attention", watched)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = torch.cat(token_losses_together(model, documents))
    assert seen == {(torch.bfloat16, torch.bfloat16, torch.bfloat16)}
    torch.testing.assert_close(rounded.float().mean(), exact.mean(), rtol=0, atol=0.02)


def test_what_it_does_not_compute_it_refuses(model: LlamaForCausalLM) -> None:
    query = torch.zeros(1, 1, 4, 8)
    with pytest.raises(attention.UnsupportedAttentionError):
        attention.per_document_attention(
            model, query, query, query, None, layout=torch.tensor(0), softcap=50.0
        )
    with pytest.raises(attention.UnsupportedAttentionError):
        attention.per_document_attention(model, query, query, query, None)

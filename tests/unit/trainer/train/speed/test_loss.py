import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import Gemma2Config, Gemma2ForCausalLM

from finetune_trainer.data.examples import Example
from finetune_trainer.train.batches import collate
from finetune_trainer.train.probe import probe
from finetune_trainer.train.speed import head
from finetune_trainer.train.speed.loss import SummedLoss
from unit.trainer.tiny import SMALL, tiny_model
from unit.trainer.train.made import random_examples

CPU = torch.device("cpu")
LONGEST = 24


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("separable_head", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_it_equals_the_stock_loss_of_each_document_with_its_gradients(
    padded: bool, separable_head: bool, tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "CHUNK_ROWS", 7)  # several chunks, the last one smaller
    documents = random_examples(4)
    stock = tiny_model(tie_word_embeddings=tied).eval()
    expected = torch.zeros(())
    for document in documents:
        tokens = torch.from_numpy(document.tokens.astype(np.int64))
        logits = stock(input_ids=tokens[None]).logits[0, :-1]
        labels = torch.where(torch.from_numpy(document.supervised[1:]), tokens[1:], -100)
        expected = expected + cross_entropy(logits, labels, reduction="sum")
    expected.backward()
    model = tiny_model(tie_word_embeddings=tied).eval()
    if not padded:
        assert probe(model, LONGEST).shared_rows
    actual = SummedLoss(model, separable_head=separable_head)(
        collate(documents, padded=padded, device=CPU)
    )
    actual.backward()
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-4)
    for ours, theirs in zip(model.parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)


def test_capped_logits_exist_in_chunks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "CHUNK_ROWS", 7)
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=0.5)).eval()
    batch = collate(random_examples(4), padded=True, device=CPU)
    rows: list[int] = []
    model.lm_head.register_forward_hook(lambda _, __, logits: rows.append(logits.shape[-2]))
    values, gradients = [], []
    for separable in (False, True):
        rows.clear()
        model.zero_grad()
        value = SummedLoss(model, separable_head=separable)(batch)
        value.backward()
        values.append(value)
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert max(rows) == 7
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)


def test_a_batch_without_supervised_tokens_has_loss_zero_and_a_gradient_of_zero_everywhere() -> (
    None
):
    model = tiny_model().eval()
    probe(model, LONGEST)
    batch = collate(random_examples(2), padded=False, device=CPU, supervised=False)
    value = SummedLoss(model, separable_head=True)(batch)
    value.backward()
    assert value.item() == 0.0
    assert all(float(parameter.grad.abs().sum()) == 0.0 for parameter in model.parameters())


def test_the_first_token_of_a_document_is_never_predicted() -> None:
    document = Example(
        tokens=np.array([5, 6, 7], dtype=np.int32), supervised=np.ones(3, dtype=np.bool_)
    )
    batch = collate([document, document], padded=False, device=CPU)
    assert batch.positions.tolist() == [0, 1, 3, 4]
    assert batch.targets.tolist() == [6, 7, 6, 7]

"""The log-probability of each token is what stock transformers says, gradients included."""

import numpy as np
import pytest
import torch

from finetune_trainer.train.batches import collate
from finetune_trainer.train.probe import probe
from finetune_trainer.train.speed import head
from finetune_trainer.train.speed.head import Head
from finetune_trainer.train.speed.probabilities import target_log_probabilities
from unit.trainer.tiny import tiny_model
from unit.trainer.train.made import random_examples

CPU = torch.device("cpu")
LONGEST = 24


@pytest.mark.parametrize("frozen", [True, False], ids=["a frozen head", "a trained head"])
@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_each_equals_the_stock_models_with_its_gradients(
    padded: bool, separable: bool, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "CHUNK_ROWS", 7)  # several chunks, the last one smaller
    documents = random_examples(4)
    stock = tiny_model(tie_word_embeddings=False).eval()
    expected = []
    for document in documents:
        tokens = torch.from_numpy(document.tokens.astype(np.int64))
        logs = stock(input_ids=tokens[None]).logits[0, :-1].log_softmax(-1)
        wanted = torch.from_numpy(document.supervised[1:].copy())
        expected.append(logs.gather(1, tokens[1:, None]).squeeze(1)[wanted])
    model = tiny_model(tie_word_embeddings=False).eval()
    if frozen:
        model.lm_head.requires_grad_(False)
    if not padded:
        assert probe(model, LONGEST).shared_rows
    batch = collate(documents, padded=padded, device=CPU)
    found = target_log_probabilities(Head(model, separable), batch)
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-5, atol=1e-4)
    # What a loss makes of them differs from value to value.
    factors = torch.linspace(-1, 1, len(found))
    (found * factors).sum().backward()
    (torch.cat(expected) * factors).sum().backward()
    for (name, ours), theirs in zip(model.named_parameters(), stock.parameters(), strict=True):
        if ours.requires_grad:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4, msg=name)


def test_logits_exist_in_chunks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "CHUNK_ROWS", 7)
    model = tiny_model().eval()
    rows: list[int] = []
    model.lm_head.register_forward_hook(lambda _, __, logits: rows.append(logits.shape[-2]))
    batch = collate(random_examples(4), padded=True, device=CPU)
    target_log_probabilities(Head(model, separable=True), batch).sum().backward()
    assert max(rows) == 7


def test_without_supervised_tokens_there_is_none_and_every_gradient_is_zero() -> None:
    model = tiny_model().eval()
    batch = collate(random_examples(2), padded=True, device=CPU, supervised=False)
    found = target_log_probabilities(Head(model, separable=True), batch)
    assert found.shape == (0,)
    found.sum().backward()
    assert all(float(parameter.grad.abs().sum()) == 0.0 for parameter in model.parameters())

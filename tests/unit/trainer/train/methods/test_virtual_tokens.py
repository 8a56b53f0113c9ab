"""Trained positions before every document: the same as PEFT's own forward pass, head apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import PreTrainedModel

from finetune_trainer.data.examples import Example
from finetune_trainer.outcome import UserError
from finetune_trainer.prepare.suitability import check_sequence_length
from finetune_trainer.run import Method
from finetune_trainer.train.batches import Batch, collate
from finetune_trainer.train.methods.virtual_tokens import add_virtual_tokens, left_out
from finetune_trainer.train.probe import probe
from finetune_trainer.train.speed.head import model_inputs
from finetune_trainer.train.speed.loss import SummedLoss
from unit.trainer.tiny import tiny_model, tiny_tokenizer
from unit.trainer.train.made import random_examples
from unit.trainer.train.methods.made import VIRTUAL_TOKENS

CPU = torch.device("cpu")


def added(method: dict[str, Any], tmp_path: Path) -> tuple[PreTrainedModel, PeftModel]:
    tiny_tokenizer().save_pretrained(tmp_path)
    model = tiny_model().eval()
    return model, add_virtual_tokens(model, Method.model_validate(method), tmp_path)


def batch(*documents: Example) -> Batch:
    return collate(list(documents), padded=True, device=CPU)


def each() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("method", VIRTUAL_TOKENS.values(), ids=VIRTUAL_TOKENS)


@each()
def test_padding_and_the_head_apart_change_nothing(method: dict[str, Any], tmp_path: Path) -> None:
    model, adapter = added(method, tmp_path)
    documents = random_examples(5)
    together = SummedLoss(model, separable_head=True)(batch(*documents))
    # PEFT's own, one document at a time, without a mask and through the whole head.
    alone = torch.zeros(())
    undone = model.model
    model.model = undone.decoder
    for document in documents:
        one = batch(document)
        logits = adapter(input_ids=one.input_ids).logits[0, -one.input_ids.shape[1] :]
        alone += torch.nn.functional.cross_entropy(
            logits[one.positions], one.targets, reduction="sum"
        )
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=0)


@each()
def test_gradients_reach_all_that_is_trained_and_nothing_else(
    method: dict[str, Any], tmp_path: Path
) -> None:
    model, adapter = added(method, tmp_path)
    SummedLoss(model, separable_head=True)(batch(*random_examples(3))).backward()
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert (
        sum(value.numel() for value in trained.values())
        == (adapter.get_nb_trainable_parameters()[0])
    )
    assert all(value.grad is not None and value.grad.any() for value in trained.values())
    assert all(value.grad is None for value in model.parameters() if not value.requires_grad)


@each()
def test_left_out_the_model_is_the_base(method: dict[str, Any], tmp_path: Path) -> None:
    one = batch(*random_examples(2))
    with torch.no_grad():
        expected = tiny_model().eval()(**model_inputs(one)).logits
        model, _ = added(method, tmp_path)
        assert not torch.allclose(model(**model_inputs(one)).logits, expected)
        with left_out(model):
            assert torch.equal(model(**model_inputs(one)).logits, expected)


@each()
def test_documents_are_kept_in_rows_of_their_own(method: dict[str, Any], tmp_path: Path) -> None:
    model, _ = added(method, tmp_path)
    abilities = probe(model, 64, CPU)
    assert not abilities.shared_rows
    assert abilities.separable_head


def test_a_prompt_begins_as_its_text_over_and_over(tmp_path: Path) -> None:
    model, adapter = added({"prompt": {"virtualTokens": 5, "text": "ab"}}, tmp_path)
    ids = tiny_tokenizer()("ababa")["input_ids"]
    expected = model.get_input_embeddings()(torch.tensor(ids))
    assert torch.equal(adapter.prompt_encoder["default"].embedding.weight, expected)


def test_a_text_longer_than_the_prompt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"spec\.method\.prompt\.text has 3 tokens, and spec\.method\.prompt\.virtualTokens "
        r"is 2",
    ):
        added({"prompt": {"virtualTokens": 2, "text": "abc"}}, tmp_path)


def test_virtual_tokens_need_positions_too() -> None:
    config = tiny_model().config
    check_sequence_length(config, 492, 20)
    with pytest.raises(
        UserError, match=r"sequenceLength is 500 and spec\.method adds 20 .* sequenceLength to 492"
    ):
        check_sequence_length(config, 500, 20)

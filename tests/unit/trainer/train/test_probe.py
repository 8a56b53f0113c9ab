"""Each architecture gets what it can bear, found out by running it."""

import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PhimoeConfig,
    PhimoeForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from finetune_trainer.train.probe import Abilities, probe
from finetune_trainer.train.speed import attention
from unit.trainer.tiny import SMALL, tiny_model

LONGEST = 64


def test_llama_shares_rows_and_has_a_separable_head() -> None:
    model = tiny_model().eval()
    assert probe(model, LONGEST) == Abilities(
        shared_rows=True, shared_prefixes=True, separable_head=True
    )
    assert model.config._attn_implementation == attention.NAME


def test_llama_in_bfloat16_keeps_its_stream_in_float32_besides() -> None:
    model = tiny_model().to(torch.bfloat16).eval()
    assert probe(model, LONGEST) == Abilities(
        shared_rows=True, shared_prefixes=True, separable_head=True, float32_stream=True
    )


def test_a_stream_that_something_else_than_an_rms_norm_reads_is_left_as_it_is() -> None:
    torch.manual_seed(0)
    model = CohereForCausalLM(CohereConfig(**SMALL)).to(torch.bfloat16).eval()
    assert not probe(model, LONGEST).float32_stream
    assert not model.get_input_embeddings()._forward_hooks


def test_qwen_with_biases_shares_rows() -> None:
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**SMALL)).eval()
    assert probe(model, LONGEST) == Abilities(
        shared_rows=True, shared_prefixes=True, separable_head=True
    )


def test_scaled_logits_are_the_models_own() -> None:
    torch.manual_seed(0)
    model = CohereForCausalLM(CohereConfig(**SMALL, logit_scale=0.25)).eval()
    assert probe(model, LONGEST) == Abilities(
        shared_rows=True, shared_prefixes=True, separable_head=True
    )


def test_capped_scores_are_not_computed_per_document() -> None:
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(Gemma2Config(**SMALL, head_dim=8)).eval()
    stock = model.config._attn_implementation
    assert probe(model, LONGEST) == Abilities(
        shared_rows=False, shared_prefixes=False, separable_head=True
    )
    assert model.config._attn_implementation == stock


def test_a_state_space_model_gets_one_document_per_row() -> None:
    torch.manual_seed(0)
    model = MambaForCausalLM(
        MambaConfig(vocab_size=128, hidden_size=32, num_hidden_layers=2, state_size=4)
    ).eval()
    assert probe(model, LONGEST) == Abilities(
        shared_rows=False, shared_prefixes=False, separable_head=True
    )


def test_a_model_that_cannot_be_cut_is_left_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model().eval()
    monkeypatch.setattr(type(model), "base_model_prefix", "backbone")
    assert not probe(model, LONGEST).separable_head


def test_learned_positions_restart_with_every_document() -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=128, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    ).eval()
    # Its dropout, which is drawn for each token, leaves beginnings unshared.
    assert probe(model, LONGEST) == Abilities(
        shared_rows=True, shared_prefixes=False, separable_head=True
    )


@pytest.mark.parametrize(("longest", "shares"), [(12, True), (13, False)])
def test_a_window_that_only_the_mask_knows_needs_documents_that_fit_in_it(
    longest: int, shares: bool
) -> None:
    torch.manual_seed(0)
    model = PhimoeForCausalLM(
        PhimoeConfig(**SMALL, sliding_window=12, num_local_experts=2, num_experts_per_tok=1)
    ).eval()
    assert probe(model, longest).shared_rows is shares


def test_a_window_that_the_layers_tell_is_kept() -> None:
    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(**SMALL, sliding_window=12)).eval()
    assert probe(model, LONGEST).shared_rows

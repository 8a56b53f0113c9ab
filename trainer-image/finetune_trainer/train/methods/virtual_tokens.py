"""Trained positions before every document, seen by all of its tokens, in front of a frozen model:
prompt tuning, prefix tuning and P-tuning, by PEFT.

PEFT's own forward pass is around the whole model, head included. Here it is around the decoder, so
that only supervised positions go through the head, as in every other training. Documents lie one a
row: each has the trained positions before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from peft import (
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel
from transformers.utils import ModelOutput

from finetune_trainer.outcome import UserError
from finetune_trainer.run import Method, Prompt
from finetune_trainer.train.speed.attention import UnsupportedAttentionError

ADAPTER = "default"


class WithVirtualTokens(nn.Module):  # type: ignore[misc]  # torch is not type-checked
    """A decoder with trained positions before every row; its output is that of the row alone.

    With a `prefix` they are keys and values of every layer, else embeddings.
    """

    def __init__(self, decoder: PreTrainedModel, adapter: PeftModel, *, prefix: bool) -> None:
        super().__init__()
        self.decoder = decoder
        self.encoder = adapter.prompt_encoder[ADAPTER]
        self.prefix = prefix
        self.enabled = True
        # Not as a module: this one is a part of it.
        object.__setattr__(self, "adapter", adapter)

    def __getattr__(self, name: str) -> Any:
        """What a model asks of its decoder."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("decoder"), name)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> ModelOutput:
        """The decoder's output for `input_ids` [rows, T], padded at the right by `attention_mask`.

        Raises:
            UnsupportedAttentionError: documents share a row.
        """
        if input_ids is None or not self.enabled:
            return self.decoder(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                **kwargs,
            )
        if attention_mask is None:
            raise UnsupportedAttentionError("trained positions before every document")
        rows = input_ids.shape[0]
        trained = self.adapter.get_prompt(rows)
        before = attention_mask.new_ones(rows, self.adapter.peft_config[ADAPTER].num_virtual_tokens)
        # Positions are left to the decoder, which counts on from what stands before.
        kwargs["attention_mask"] = torch.cat([before, attention_mask], dim=1)
        if self.prefix:
            return self.decoder(**{**kwargs, "input_ids": input_ids, "past_key_values": trained})
        embedded = self.decoder.get_input_embeddings()(input_ids)
        kwargs["inputs_embeds"] = torch.cat([trained.to(embedded.dtype), embedded], dim=1)
        output = self.decoder(**kwargs)
        output.last_hidden_state = output.last_hidden_state[:, before.shape[1] :]
        return output


def add_virtual_tokens(model: PreTrainedModel, method: Method, directory: Path | None) -> PeftModel:
    """`model`, changed in place: frozen, with trained positions before every row.

    * prompt (Lester et al., arXiv:2104.08691): embeddings, beginning as those of a text, repeated
      or cut to length, or of random tokens;
    * prefix (Li & Liang, arXiv:2101.00190): keys and values of every layer;
    * P-tuning (Liu et al., arXiv:2103.10385): embeddings made by a small network, of which only
      these are kept.

    `directory` holds the tokenizer for a prompt's text, which is left out without it.

    Raises:
        UserError: the model has no decoder of its own, or the text is too long or empty.
    """
    decoder = getattr(model, model.base_model_prefix, model)
    if decoder is model:
        raise UserError(
            f"spec.method.{method.name} needs a model with a decoder of its own, and "
            f"{type(model).__name__} has none: use spec.method.lora."
        )
    adapted = get_peft_model(model, _config(method))
    if method.prompt:
        _begin_as_tokens(adapted, method.prompt, directory)
    wrapped = WithVirtualTokens(decoder, adapted, prefix=method.prefix is not None)
    setattr(model, model.base_model_prefix, wrapped)
    return adapted


@contextmanager
def left_out(model: PreTrainedModel) -> Iterator[None]:
    """Let `model` compute without its virtual tokens, if it has some."""
    wrapped = [part for part in model.modules() if isinstance(part, WithVirtualTokens)]
    for part in wrapped:
        part.enabled = False
    try:
        yield
    finally:
        for part in wrapped:
            part.enabled = True


def _config(method: Method) -> PeftConfig:
    common: dict[str, Any] = {
        "num_virtual_tokens": method.virtual_tokens,
        "task_type": "CAUSAL_LM",
    }
    if method.prefix:
        return PrefixTuningConfig(**common)
    if method.p_tuning:
        return PromptEncoderConfig(
            **common, encoder_hidden_size=method.p_tuning.encoder_hidden_size
        )
    return PromptTuningConfig(**common, prompt_tuning_init="RANDOM")


def _begin_as_tokens(adapted: PeftModel, prompt: Prompt, directory: Path | None) -> None:
    weight = adapted.prompt_encoder[ADAPTER].embedding.weight
    embeddings = adapted.get_base_model().get_input_embeddings()
    if prompt.text is None or directory is None:
        ids = torch.randint(embeddings.num_embeddings, (len(weight),), device=weight.device)
    else:
        tokens = _tokens(prompt.text, len(weight), directory)
        ids = torch.tensor(list(islice(cycle(tokens), len(weight))), device=weight.device)
    with torch.no_grad():
        weight.copy_(embeddings(ids))


def _tokens(text: str, most: int, directory: Path) -> list[int]:
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    tokens: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not 0 < len(tokens) <= most:
        raise UserError(
            f"spec.method.prompt.text has {len(tokens)} tokens, and "
            f"spec.method.prompt.virtualTokens is {most}: set virtualTokens to the number of "
            "tokens or more."
        )
    return tokens

"""A real model and tokenizer, small enough to be made on the spot: random Llama, words, ChatML."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ("<unk>", "<|im_start|>", "<|im_end|>", "<pad>")
CHARACTERS = [chr(code) for code in range(32, 127)] + ["\n"]
VOCABULARY = [*SPECIAL, *CHARACTERS]

# Of a decoder of any architecture.
SMALL: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}

# Files of models that have been written, by their settings, and the state of chance then: hundreds
# of tests want the same ones.
_MADE: dict[str, tuple[dict[str, bytes], torch.Tensor]] = {}

CHATML = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token per printable ASCII character, `<|im_end|>` as end of text, a ChatML template."""
    tokenizer = Tokenizer(
        WordLevel({word: index for index, word in enumerate(VOCABULARY)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = Split("", "isolated")
    tokenizer.add_special_tokens(list(SPECIAL))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<|im_end|>", pad_token="<pad>"
    )
    fast.chat_template = CHATML
    return fast


def tiny_model(seed: int = 0, **overrides: object) -> LlamaForCausalLM:
    """Two layers, grouped-query attention, tied embeddings; float32 and random."""
    torch.manual_seed(seed)
    settings = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": VOCABULARY.index("<|im_end|>"),
        "pad_token_id": VOCABULARY.index("<pad>"),
        **overrides,
    }
    return LlamaForCausalLM(LlamaConfig(**settings))


def write_tiny_model(directory: Path, seed: int = 0, **overrides: object) -> Path:
    """A model directory as the Hub would give it."""
    key = repr((seed, sorted(overrides.items())))
    if key not in _MADE:
        with TemporaryDirectory() as once:
            tiny_model(seed, **overrides).save_pretrained(once)
            tiny_tokenizer().save_pretrained(once)
            files = {path.name: path.read_bytes() for path in Path(once).iterdir()}
        _MADE[key] = files, torch.get_rng_state()
    files, state = _MADE[key]
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    # As if it had been made now.
    torch.set_rng_state(state)
    return directory

"""`tiny/random-llama`: a Llama of random weights with a real tokenizer and a ChatML template.

The same seed gives the same bytes. It says nothing sensible; it is there to be trained and loaded
in seconds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .publish import publish, say

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from transformers import PreTrainedTokenizerFast

REPO = "tiny/random-llama"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# The merges of the vocabulary are learned from this text.
CORPUS = """
What does the noun mean? The noun means a thing that somebody can see, hear or think of.
You are a helpful assistant. The user asks a question and the assistant answers it.
A small model learns the names of animals, plants, places, people, tools and numbers.
One, two, three, four, five, six, seven, eight, nine and ten are numbers; 0123456789 are digits.
The quick brown fox jumps over the lazy dog, and the dog sleeps in the warm sun all the day.
Water flows from the mountain to the river, from the river to the sea, and rain brings it back.
To answer a question, read it first, then think, then write the answer in a short sentence.
A person who teaches is a teacher; a person who writes is a writer; an act of moving is motion.
"""


def build_tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS.strip().splitlines(), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<|endoftext|>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_tiny_model(folder: Path, seed: int = 0) -> None:
    """Write the model's files to a folder."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    tokenizer = build_tokenizer()
    tokens = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        **tokens,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(**tokens)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    card = (
        "---\nlicense: apache-2.0\npipeline_tag: text-generation\nlibrary_name: transformers\n---\n"
    )
    text = f"# Random Llama\n\nRandom weights (seed {seed}) for tests: two layers, 512 tokens.\n"
    (folder / "README.md").write_text(card + text)


def seed_tiny_model(api: HfApi, repo_id: str = REPO, seed: int = 0) -> str:
    """Upload the model; its commit."""
    say(f"{repo_id}: build")
    with tempfile.TemporaryDirectory() as folder:
        build_tiny_model(Path(folder), seed)
        return publish(api, repo_id, Path(folder))

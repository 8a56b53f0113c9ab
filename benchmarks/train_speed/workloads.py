"""What is trained on: models and data sets, made the same each time from what the tests cache.

SmolLM2-135M-Instruct's weights and WordNet's glosses come as the demo has them (tests/hub/seed).
Where they cannot be had, as on a machine without Debian's packages, random weights of the same
shape and made-up words take their place: speed does not care, and the report says so.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.seed.publish import SeedError, cache_folder, cached
from hub.seed.smollm2 import CONVERSION, VERSION, convert
from hub.seed.tiny import build_tokenizer
from hub.seed.wordnet import VERSION as WORDNET_VERSION
from hub.seed.wordnet import build_wordnet

Row = dict[str, Any]
Gloss = tuple[str, str]

SMOLLM2_SHAPE: dict[str, Any] = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
# Qwen2.5-0.5B's.
QWEN_SHAPE: dict[str, Any] = {
    "vocab_size": 151936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
    "tie_word_embeddings": True,
}


@dataclass(frozen=True, slots=True)
class Workload:
    """A data set, the model it trains, and the size of a step.

    `format` is `spec.dataset.format`; a step has about `sequence_length` x `sequences_per_step`
    tokens. `kind` is `generation` or `preference`.
    """

    name: str
    title: str
    model: Callable[[], Path]
    rows: Callable[[Path], Iterator[Row]]
    format: dict[str, Any]
    sequence_length: int
    sequences_per_step: int
    kind: str = "generation"

    def with_step_of(self, tokens: int) -> Workload:
        """The same with about `tokens` a step."""
        return dataclasses.replace(
            self,
            sequence_length=min(self.sequence_length, tokens),
            sequences_per_step=max(1, tokens // self.sequence_length),
        )


def cached_folder(name: str) -> Path:
    """A folder of the cache, which may not be there yet."""
    return cache_folder().parent / name


def smollm2() -> Path:
    """The model's folder, in the cache."""
    try:
        return cached(f"smollm2-135m-instruct-{VERSION}-{CONVERSION}", convert)
    except SeedError as error:
        print(f"  {error}: random weights of the same shape instead", flush=True)
        return cached("bench-random-135m-1", _random_llama)


def qwen_shaped() -> Path:
    """Random weights in the shape of Qwen2.5-0.5B, with SmolLM2's tokenizer, in the cache."""
    return cached("bench-random-qwen-0.5b-1", _random_qwen)


def _random_llama(folder: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    _save(folder, LlamaForCausalLM, LlamaConfig(**SMOLLM2_SHAPE), build_tokenizer())


def _random_qwen(folder: Path) -> None:
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(smollm2())
    _save(folder, Qwen2ForCausalLM, Qwen2Config(**QWEN_SHAPE), tokenizer)


def _save(folder: Path, kind: Any, config: Any, tokenizer: Any) -> None:
    import torch

    print(f"  {kind.__name__}: random weights into the cache", flush=True)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config, name, getattr(tokenizer, name))
    torch.manual_seed(0)
    model = kind(config).to(torch.bfloat16)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def glosses() -> list[Gloss]:
    """English nouns with their meanings, always in the same order."""
    try:
        folder = cached(f"wordnet-glosses-{WORDNET_VERSION}", build_wordnet)
    except SeedError as error:
        print(f"  {error}: made-up words instead", flush=True)
        return _made_up()
    lines = (folder / "train.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [(str(row["question"]).split("'")[1], str(row["answer"])) for row in rows]


def _made_up() -> list[Gloss]:
    draw = random.Random(0)
    words = ["".join(draw.choices("aeioulnrst", k=draw.randint(3, 8))) for _ in range(2000)]
    return [(word, " ".join(draw.choices(words, k=draw.randint(3, 20)))) for word in words]


def _question(word: str) -> str:
    return f"What does the noun '{word}' mean?"


def short_dialogs(model: Path) -> Iterator[Row]:
    """One question and one answer."""
    for word, meaning in glosses():
        yield {"question": _question(word), "answer": meaning}


def long_tailed(model: Path) -> Iterator[Row]:
    """Dialogs of several turns whose lengths, 100 to 600 tokens, have a long tail."""
    draw = random.Random(1)
    count = _token_counter(model)
    pool = _endless(glosses(), draw)
    for _ in range(700):
        wanted = min(600.0, 100 + draw.expovariate(1 / 130))
        messages: list[dict[str, str]] = []
        have = 35  # the template's system turn
        while have < wanted - 20:
            word, meaning = next(pool)
            messages += [
                {"role": "user", "content": _question(word)},
                {"role": "assistant", "content": meaning},
            ]
            have += count(meaning) + count(_question(word)) + 10
        if have <= 610:
            yield {"messages": messages}


def documents(model: Path) -> Iterator[Row]:
    """Texts of nearly 2048 tokens; every token is trained."""
    draw = random.Random(2)
    count = _token_counter(model)
    pool = _endless(glosses(), draw)
    for _ in range(140):
        wanted, have, sentences = draw.randint(1920, 2040), 0, list[str]()
        while have < wanted:
            word, meaning = next(pool)
            sentences.append(f"The noun '{word}' means {meaning}.")
            have += count(sentences[-1]) + 1
        yield {"text": " ".join(sentences)}


def preferences(model: Path) -> Iterator[Row]:
    """A question with its context, the right answer and one that explains other words."""
    draw = random.Random(3)
    pool = _endless(glosses(), draw)
    for _ in range(1200):
        wanted = [next(pool) for _ in range(3)]
        others = [next(pool) for _ in range(3)]
        words = ", ".join(word for word, _ in wanted)
        given = " ".join(f"'{word}' means {meaning}." for word, meaning in others[:2])
        question = f"Two nouns are already explained: {given} Now explain the nouns {words}."
        yield {
            "prompt": [{"role": "user", "content": question}],
            "chosen": [{"role": "assistant", "content": _list(wanted)}],
            "rejected": [
                {
                    "role": "assistant",
                    "content": _list(
                        [(a, b) for (a, _), (_, b) in zip(wanted, others, strict=True)]
                    ),
                }
            ],
        }


def _list(pairs: list[Gloss]) -> str:
    return "\n".join(f"- {word}: {meaning}" for word, meaning in pairs)


def _endless(pool: list[Gloss], draw: random.Random) -> Iterator[Gloss]:
    while True:
        yield from draw.sample(pool, len(pool))


def _token_counter(model: Path) -> Callable[[str], int]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


QUESTION_ANSWER: dict[str, Any] = {"questionAnswer": {"question": "question", "answer": "answer"}}

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "short",
            "short dialogs with the template's system turn, SmolLM2-135M",
            smollm2,
            short_dialogs,
            QUESTION_ANSWER,
            sequence_length=1024,
            sequences_per_step=4,
        ),
        Workload(
            "long",
            "dialogs of 100-600 tokens, SmolLM2-135M",
            smollm2,
            long_tailed,
            {"messages": {"messages": "messages"}},
            sequence_length=1024,
            sequences_per_step=4,
        ),
        Workload(
            "documents",
            "documents of 2k tokens, SmolLM2-135M",
            smollm2,
            documents,
            {"text": {"text": "text"}},
            sequence_length=2048,
            sequences_per_step=2,
        ),
        Workload(
            "preference",
            "preference pairs (DPO), SmolLM2-135M",
            smollm2,
            preferences,
            {"preference": {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}},
            sequence_length=1024,
            sequences_per_step=4,
            kind="preference",
        ),
        Workload(
            "vocabulary",
            "short dialogs, 0.5B of Qwen2.5's shape with 152k vocabulary (random weights)",
            qwen_shaped,
            short_dialogs,
            QUESTION_ANSWER,
            sequence_length=1024,
            sequences_per_step=2,
        ),
    )
}

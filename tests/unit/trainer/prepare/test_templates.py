"""Templates as real models have them, in their own words and of their habits: which text of a
conversation is supervised.

Written after the formats that the models document, shortened to what matters for labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from finetune_trainer.outcome import UserError
from finetune_trainer.prepare.encode import Encoder
from finetune_trainer.prepare.format import Conversation, Dropped, Message
from finetune_trainer.prepare.template import ChatTemplate
from finetune_trainer.run import LossOn

SPECIAL = [
    *("<s>", "</s>", "<bos>", "<eos>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "[INST]"),
    *("[/INST]", "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|eot_id|>"),
    *("<|end_header_id|>", "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>"),
    *("<|system|>", "<|end|>", "<|User|>", "<|Assistant|>", "<|end_of_sentence|>", "<|start|>"),
    *("<|message|>", "<|channel|>", "<|return|>", "<|START_OF_TURN_TOKEN|>"),
    *("<|END_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|USER_TOKEN|>"),
]


USER = {"role": "user", "content": "Why is it so?"}
FIRST = {"role": "assistant", "content": "It is  so."}
AGAIN = {"role": "user", "content": " And then? "}
LAST = {"role": "assistant", "content": "<b>Then</b>\n\nnothing"}
SYSTEM = {"role": "system", "content": "Be brief."}
TURNS: list[Message] = [USER, FIRST, AGAIN, LAST]


@dataclass(frozen=True)
class Real:
    """A template, its tokenizer's end-of-text token, and what is supervised of the two turns.

    `system` is what is supervised when the system speaks first; None if the template refuses that.
    """

    model: str
    template: str
    end: str
    supervised: tuple[str, str]
    system: tuple[str, str] | None

    def __str__(self) -> str:
        return self.model


def both(first: str, last: str) -> dict[str, tuple[str, str]]:
    return {"supervised": (first, last), "system": (first, last)}


IM = ("It is  so.<|im_end|>", "<b>Then</b>\n\nnothing<|im_end|>")

REAL = (
    Real(
        "ChatML",
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "<|im_end|>",
        **both(*IM),
    ),
    Real(
        "Qwen 2.5, which speaks for the system and ends texts with another token",
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "<|endoftext|>",
        **both(*IM),
    ),
    Real(
        "Qwen 3, which gives the last turn an empty thought",
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
        "{{ m.content.split('</think>')[-1].lstrip('\n') if m.role == 'assistant' else m.content }}"
        "<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
        "{% endif %}{% endif %}",
        "<|im_end|>",
        **both(IM[0], f"<think>\n\n</think>\n\n{IM[1]}"),
    ),
    Real(
        "Llama 3, which trims and writes its beginning",
        "{% for m in messages %}{% if loop.first %}<|begin_of_text|>{% endif %}"
        "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
        "{% endfor %}{% if add_generation_prompt %}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        "<|end_of_text|>",
        **both("It is  so.<|eot_id|>", "<b>Then</b>\n\nnothing<|eot_id|>"),
    ),
    Real(
        "Gemma, which calls the assistant model and refuses a system",
        "<bos>{% if messages[0].role == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Roles must alternate') }}{% endif %}"
        "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        "<eos>",
        ("It is  so.<end_of_turn>", "<b>Then</b>\n\nnothing<end_of_turn>"),
        None,
    ),
    Real(
        "Gemma 3, which puts the system's words before the first question",
        "<bos>{% set s = '' %}{% if messages[0].role == 'system' %}"
        "{% set s = messages[0].content + '\n\n' %}{% set messages = messages[1:] %}{% endif %}"
        "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ s if loop.first }}{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        "<eos>",
        **both("It is  so.<end_of_turn>", "<b>Then</b>\n\nnothing<end_of_turn>"),
    ),
    Real(
        "Llama 2, without a generation prompt",
        "{% set s = '' %}{% if messages[0].role == 'system' %}"
        "{% set s = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
        "{% set messages = messages[1:] %}{% endif %}"
        "{% for m in messages %}{% if m.role == 'user' %}"
        "<s>[INST] {{ s if loop.first }}{{ m.content | trim }} [/INST]"
        "{% else %} {{ m.content | trim }} </s>{% endif %}{% endfor %}",
        "</s>",
        **both(" It is  so. </s>", " <b>Then</b>\n\nnothing </s>"),
    ),
    Real(
        "Mistral, which moves the system's words to the last question",
        "<s>{% set s = '' %}{% if messages[0].role == 'system' %}"
        "{% set s = messages[0].content + '\n\n' %}{% set messages = messages[1:] %}{% endif %}"
        "{% for m in messages %}{% if m.role == 'user' %}[INST] "
        "{% if loop.revindex <= 2 and (loop.last or loop.revindex == 2) %}{{ s }}{% endif %}"
        "{{ m.content }}[/INST]{% else %} {{ m.content | trim }}</s>{% endif %}{% endfor %}",
        "</s>",
        (" It is  so.</s>", " <b>Then</b>\n\nnothing</s>"),
        ("It is  so.</s>", " <b>Then</b>\n\nnothing</s>"),
    ),
    Real(
        "Phi 3, whose turns end with another token than its texts",
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}<|endoftext|>{% endif %}",
        "<|endoftext|>",
        **both("It is  so.<|end|>", "<b>Then</b>\n\nnothing<|end|>"),
    ),
    Real(
        "Zephyr, whose roles are plain lines",
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content + eos_token }}\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        "</s>",
        **both("It is  so.</s>", "<b>Then</b>\n\nnothing</s>"),
    ),
    Real(
        "DeepSeek R1, whose generation prompt opens a thought",
        "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}"
        "{% elif m.role == 'user' %}<|User|>{{ m.content }}"
        "{% else %}<|Assistant|>{{ m.content.split('</think>')[-1] }}<|end_of_sentence|>{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}",
        "<|end_of_sentence|>",
        **both("It is  so.<|end_of_sentence|>", "<b>Then</b>\n\nnothing<|end_of_sentence|>"),
    ),
    Real(
        "gpt-oss, with channels and another stop for the last turn",
        "{% for m in messages %}<|start|>{{ m.role }}"
        "{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>{{ m.content }}"
        "{{ '<|return|>' if m.role == 'assistant' and loop.last else '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}",
        "<|return|>",
        **both(
            "<|channel|>final<|message|>It is  so.<|end|>",
            "<|channel|>final<|message|><b>Then</b>\n\nnothing<|return|>",
        ),
    ),
    Real(
        "Command R, whose tokens name roles",
        "{% for m in messages %}<|START_OF_TURN_TOKEN|>"
        "{{ '<|CHATBOT_TOKEN|>' if m.role == 'assistant' else '<|USER_TOKEN|>' }}"
        "{{ m.content.strip() }}<|END_OF_TURN_TOKEN|>{% endfor %}"
        "{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% endif %}",
        "<|END_OF_TURN_TOKEN|>",
        **both("It is  so.<|END_OF_TURN_TOKEN|>", "<b>Then</b>\n\nnothing<|END_OF_TURN_TOKEN|>"),
    ),
)


@pytest.fixture(scope="module")
def byte_level() -> Tokenizer:
    """One token a byte, and the special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def supervised(
    byte_level: Tokenizer, real: Real, messages: list[Message], loss: LossOn = LossOn.COMPLETIONS
) -> list[str]:
    """The supervised parts of a conversation, as text."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level, eos_token=real.end)
    tokenizer.chat_template = real.template
    encoder = Encoder(tokenizer, ChatTemplate(tokenizer), loss=loss, capacity=2048)
    (outcome,) = encoder.encode([Conversation(tuple(messages))])
    if isinstance(outcome, Dropped):
        raise outcome
    (example,) = outcome
    shown = [
        tokenizer.decode([token]) if flag else "|"
        for token, flag in zip(example.tokens.tolist(), example.supervised.tolist(), strict=True)
    ]
    return [part for part in "".join(shown).split("|") if part]


def marked(parts: tuple[str, str]) -> list[str]:
    """As `supervised` shows them: it splits at bars, of which special tokens are full."""
    return [piece for part in parts for piece in part.split("|") if piece]


@pytest.mark.parametrize("real", REAL, ids=str)
def test_both_turns_are_supervised_each_with_its_stop(byte_level: Tokenizer, real: Real) -> None:
    assert supervised(byte_level, real, TURNS) == marked(real.supervised)


@pytest.mark.parametrize("real", REAL, ids=str)
def test_what_the_system_says_is_never_supervised(byte_level: Tokenizer, real: Real) -> None:
    if real.system is None:
        with pytest.raises(Dropped, match="System role not supported"):
            supervised(byte_level, real, [SYSTEM, *TURNS])
        return
    assert supervised(byte_level, real, [SYSTEM, *TURNS]) == marked(real.system)


@pytest.mark.parametrize("real", REAL, ids=str)
def test_of_the_last_turn_alone(byte_level: Tokenizer, real: Real) -> None:
    found = supervised(byte_level, real, TURNS, LossOn.LAST_TURN)
    assert found == marked(("", real.supervised[1]))


THOUGHT = {"role": "assistant", "content": "<think>hm</think>So."}


@pytest.mark.parametrize("real", [each for each in REAL if "</think>" in each.template], ids=str)
def test_a_thought_that_the_template_takes_out_of_a_turn_is_not_looked_for(
    byte_level: Tokenizer, real: Real
) -> None:
    parts = supervised(byte_level, real, [USER, THOUGHT, AGAIN, LAST])
    assert parts[0].startswith("So.<")
    assert "hm" not in "".join(parts)


def test_turns_in_another_order_are_refused(byte_level: Tokenizer) -> None:
    backwards = Real(
        "backwards",
        REAL[0].template.replace("in messages", "in messages[::-1]"),
        "<|im_end|>",
        ("", ""),
        None,
    )
    with pytest.raises(UserError, match="cannot be found"):
        supervised(byte_level, backwards, TURNS)

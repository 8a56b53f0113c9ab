"""Supervision of conversations, through templates of every habit."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from finetune_trainer.outcome import UserError
from finetune_trainer.prepare.encode import Encoder
from finetune_trainer.prepare.format import Conversation, Dropped, Message
from finetune_trainer.prepare.mask import first_token_behind
from finetune_trainer.prepare.template import ChatTemplate
from finetune_trainer.run import LossOn
from unit.trainer.tiny import CHATML

SPECIAL = [
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "[INST]",
    "[/INST]",
]

DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    + CHATML
)
# Strips blanks, has no generation prompt, opens with a beginning-of-text token.
INSTRUCT = (
    "<s>{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]"
    "{% elif m.role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% else %} {{ m.content | trim }}</s>{% endif %}{% endfor %}"
)
# Closes the last turn with another token than earlier ones.
CHANNELS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}"
    "{% if m.role == 'assistant' and loop.last %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"
)
# Opens a thought in the generation prompt that finished turns do not have.
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
# Ends a prompt that is not continued with an end-of-text token, as some templates do.
END_OF_TEXT = CHATML + "{% if not add_generation_prompt %}</s>{% endif %}"

ONE: list[Message] = [
    {"role": "user", "content": "Hello there"},
    {"role": "assistant", "content": "Hi, you"},
]
TWO: list[Message] = [
    *ONE,
    {"role": "user", "content": "Say (more)"},
    {"role": "assistant", "content": "(more) words"},
]
SYSTEM: list[Message] = [{"role": "system", "content": "Be brief"}, *ONE]


@pytest.fixture(scope="module")
def byte_pair() -> Tokenizer:
    """Byte-level pairs learned from the very texts, so that tokens span words and blanks."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    corpus = ["user\nHello there", "assistant\nHi, you", "assistant: (more) words", "system\nBe "]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus * 5, trainer)
    return tokenizer


@pytest.fixture
def tokenizer(byte_pair: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_pair, eos_token="</s>", additional_special_tokens=SPECIAL[2:]
    )


def supervised(
    tokenizer: PreTrainedTokenizerFast,
    template: str,
    messages: list[Message],
    loss: LossOn = LossOn.COMPLETIONS,
) -> list[str]:
    """The supervised parts of a conversation, as text."""
    tokenizer.chat_template = template
    encoder = Encoder(tokenizer, ChatTemplate(tokenizer), loss=loss, capacity=512)
    outcome = encoder.encode([Conversation(tuple(messages))])[0]
    if isinstance(outcome, Dropped):
        raise outcome
    (example,) = outcome
    parts: list[list[int]] = []
    previous = False
    for token, flag in zip(example.tokens.tolist(), example.supervised.tolist(), strict=True):
        if flag:
            parts = parts if previous else [*parts, []]
            parts[-1].append(token)
        previous = flag
    return [tokenizer.decode(part) for part in parts]


@pytest.mark.parametrize("template", [CHATML, DEFAULT_SYSTEM, END_OF_TEXT])
def test_every_assistant_turn_is_supervised_with_its_stop(
    tokenizer: PreTrainedTokenizerFast, template: str
) -> None:
    assert supervised(tokenizer, template, TWO) == ["Hi, you<|im_end|>", "(more) words<|im_end|>"]


def test_a_template_without_generation_prompt_and_with_trimmed_blanks(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    blanks = [{**message, "content": f"  {message['content']} \n"} for message in TWO]
    assert supervised(tokenizer, INSTRUCT, blanks) == [" Hi, you</s>", " (more) words</s>"]


def test_a_template_whose_last_turn_stops_with_another_token(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    parts = supervised(tokenizer, CHANNELS, TWO)
    assert [part.strip() for part in parts] == ["Hi, you<|end|>", "(more) words<|return|>"]


def test_a_template_that_opens_a_thought_in_the_generation_prompt(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    first, last = supervised(tokenizer, THINKING, TWO)
    assert first == "Hi, you<|im_end|>"
    assert last.endswith("(more) words<|im_end|>")
    assert "user" not in last


def test_only_the_last_turn(tokenizer: PreTrainedTokenizerFast) -> None:
    assert supervised(tokenizer, CHATML, TWO, LossOn.LAST_TURN) == ["(more) words<|im_end|>"]


def test_all_tokens_but_the_first(tokenizer: PreTrainedTokenizerFast) -> None:
    (part,) = supervised(tokenizer, CHATML, ONE, LossOn.ALL_TOKENS)
    assert part == ("user\nHello there<|im_end|>\n<|im_start|>assistant\nHi, you<|im_end|>\n")


def test_a_system_turn_is_context(tokenizer: PreTrainedTokenizerFast) -> None:
    assert supervised(tokenizer, CHATML, SYSTEM) == ["Hi, you<|im_end|>"]


def test_turns_that_the_template_refuses_are_dropped_with_its_words(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    with pytest.raises(Dropped, match="System role not supported"):
        supervised(tokenizer, INSTRUCT, SYSTEM)


@pytest.mark.parametrize(
    ("failure", "words"),
    [("{{ 1 / 0 }}", "ZeroDivisionError"), ("{{ 1 + m.content }}", "TypeError")],
)
def test_a_template_that_fails_as_a_program_is_refused(
    tokenizer: PreTrainedTokenizerFast, failure: str, words: str
) -> None:
    failing = CHATML.replace("{% endfor %}", "{% set m = message %}" + failure + "{% endfor %}")
    with pytest.raises(UserError, match=rf"{words}.*set spec\.model\.chatTemplate"):
        supervised(tokenizer, failing, ONE)


def test_turns_on_which_the_template_fails_are_dropped(tokenizer: PreTrainedTokenizerFast) -> None:
    counting = CHATML.replace(
        "{% endfor %}", "{% if message['role'] == 'system' %}{{ 1 / 0 }}{% endif %}{% endfor %}"
    )
    with pytest.raises(Dropped, match="ZeroDivisionError: division by zero"):
        supervised(tokenizer, counting, SYSTEM)


def test_a_template_that_never_stops_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    endless = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    with pytest.raises(UserError, match="would never learn to stop"):
        supervised(tokenizer, endless, ONE)


def test_a_template_that_writes_history_anew_is_read_by_its_words(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    counting = "{{ messages | length }}" + CHATML
    assert supervised(tokenizer, counting, TWO) == ["Hi, you<|im_end|>", "(more) words<|im_end|>"]


def test_a_generation_prompt_unlike_the_answers_beginning_is_refused(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    unlike = CHATML.replace("<|im_start|>assistant", "[INST]answer")
    with pytest.raises(UserError, match="unlike its generation prompt"):
        supervised(tokenizer, unlike, ONE)


def test_a_template_that_loses_the_answer_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(UserError, match="does not write the assistant's answer"):
        supervised(tokenizer, "{{ messages[0].content }}<|im_end|>", ONE)


def test_a_template_with_an_error_is_refused_with_its_line(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    with pytest.raises(UserError, match="error in line 2"):
        supervised(tokenizer, "fine\n{% for %}", ONE)


def test_a_tokenizer_without_a_template_names_the_remedy(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokenizer.chat_template = None
    with pytest.raises(UserError, match=r"spec\.model\.chatTemplate"):
        ChatTemplate(tokenizer)


@pytest.mark.parametrize(
    ("offsets", "first"),
    [
        ([(0, 2), (2, 4)], 1),
        ([(0, 1), (1, 4)], 1),  # " b" across the boundary: only a blank before it
        ([(0, 3), (3, 4)], 1),  # "a b" across the boundary: not the answer's
        ([(0, 2), (2, 2), (2, 4)], 2),  # a blank whose offsets were trimmed away
    ],
)
def test_the_token_at_a_boundary(offsets: list[tuple[int, int]], first: int) -> None:
    assert first_token_behind(offsets, "a bc", 2) == first

"""What the samples bring themselves, as the stage that reads it takes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from finetune_trainer.prepare.format import Message
from finetune_trainer.prepare.template import ChatTemplate
from unit.trainer.tiny import CHATML, tiny_tokenizer

SAMPLES = Path(__file__).resolve().parents[4] / "manifests" / "samples"
TURNS: list[Message] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Why is it so?"},
    {"role": "assistant", "content": "It is so.\n\nTruly."},
]


@pytest.mark.parametrize("asked", [True, False])
def test_the_chat_template_of_full_training_is_chatml(asked: bool) -> None:
    template = yaml.safe_load((SAMPLES / "full.yaml").read_text())["spec"]["model"]["chatTemplate"]
    ours, chatml = tiny_tokenizer(), tiny_tokenizer()
    ours.chat_template, chatml.chat_template = template, CHATML
    said = [
        ChatTemplate(tokenizer).render(TURNS, add_generation_prompt=asked)
        for tokenizer in (ours, chatml)
    ]
    assert said[0] == said[1]
    assert ChatTemplate(ours).stops == {ours.convert_tokens_to_ids("<|im_end|>")}

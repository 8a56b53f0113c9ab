"""The chat template as a function from turns to text, and which tokens close an assistant's turn.

Any template works that writes the conversation so far before a turn and a token after it. Where a
turn begins inside a longer conversation belongs to `mask.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import TemplateError, TemplateSyntaxError
from transformers import PreTrainedTokenizerBase

from finetune_trainer.outcome import UserError
from finetune_trainer.prepare.format import Dropped, Message

# Words that no template writes by itself, to find the answers again in a rendered probe.
QUESTION, FIRST_ANSWER, LAST_ANSWER = "Qprobe", "Aprobe1", "Aprobe2"


class ChatTemplate:
    """A tokenizer's chat template, probed once.

    Attributes:
        stops: ids of the tokens that close an assistant's turn, in the last turn or in an earlier.

    Raises:
        UserError: there is no template, it has a syntax error, it loses the answer, or it closes
            an assistant's turn with no special token, so that a model trained on it never stops.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.chat_template:
            raise UserError(
                "The model's tokenizer has no chat template, which spec.dataset.format needs: set "
                "spec.model.chatTemplate, or use an instruction-tuned model, or format "
                "promptCompletion or text."
            )
        self._tokenizer = tokenizer
        self.stops = self._probe()

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """The text of `messages`, as the template writes it.

        Raises:
            Dropped: the template refuses these turns, or fails on them.
        """
        try:
            text = self._tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except TemplateSyntaxError as error:
            raise UserError(
                f"The chat template has an error in line {error.lineno} ({error.message}): correct "
                "spec.model.chatTemplate."
            ) from error
        except MemoryError:
            raise
        # A template is a program: it divides by zero, too, or adds a number to a text.
        except Exception as error:
            words = " ".join(str(error).split())[:120]
            kind = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
            raise Dropped(f"refused by the chat template: {kind}{words}") from error
        return str(text)

    def _probe(self) -> frozenset[int]:
        exchange: list[Message] = [
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": FIRST_ANSWER},
        ]
        try:
            single = self.render(exchange)
        except Dropped as error:
            raise UserError(
                f"The chat template cannot write one question and one answer ({error}): set "
                "spec.model.chatTemplate."
            ) from error
        stops = [self._stop_after(single, FIRST_ANSWER)]
        try:
            double = self.render(
                [
                    *exchange,
                    {"role": "user", "content": QUESTION},
                    {"role": "assistant", "content": LAST_ANSWER},
                ]
            )
        except Dropped:
            pass  # Made for a single exchange; longer rows will be dropped with this reason.
        else:
            next_turn = double.find(QUESTION, max(double.find(FIRST_ANSWER), 0))
            stops.append(self._stop_after(double[:next_turn], FIRST_ANSWER))
            stops.append(self._stop_after(double, LAST_ANSWER))
        return frozenset(stops)

    def _stop_after(self, text: str, answer: str) -> int:
        """The first special token behind `answer`."""
        position = text.find(answer)
        if position < 0:
            raise UserError(
                "The chat template does not write the assistant's answer as it is: set "
                "spec.model.chatTemplate to one that does."
            )
        encoding = self._tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        special = self._control_tokens()
        end = position + len(answer)
        for token, (start, _) in zip(
            encoding["input_ids"], encoding["offset_mapping"], strict=True
        ):
            if start >= end and token in special:
                return int(token)
        raise UserError(
            "The chat template closes the assistant's turn with no special token, so the model "
            "would never learn to stop: set spec.model.chatTemplate to one that writes "
            f"{self._tokenizer.eos_token or 'an end token'} after it."
        )

    def _control_tokens(self) -> frozenset[int]:
        """Special tokens, and added ones such as `<|im_end|>` that a tokenizer does not flag so."""
        added = {
            token
            for token, content in self._tokenizer.added_tokens_decoder.items()
            if content.special or content.content.startswith("<")
        }
        return frozenset(added | set(self._tokenizer.all_special_ids))

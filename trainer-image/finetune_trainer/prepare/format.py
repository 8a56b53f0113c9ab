"""Rows of every format, read as documents: a conversation, a continuation or a passage.

Columns are checked once, against the data set; values row by row. Tokens and templates are not
known here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from finetune_trainer.outcome import UserError
from finetune_trainer.run import (
    Alpaca,
    Format,
    Messages,
    PromptCompletion,
    QuestionAnswer,
    ShareGpt,
    Template,
    Text,
)

ROLES = ("system", "user", "assistant")
# ShareGPT's names for them, and those that data sets in its form use; what is none is a role.
SPEAKERS = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "function_call": "tool",
    "function_response": "tool",
    "observation": "tool",
}

Message = dict[str, str]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns of a chat, `{"role", "content"}` each; the last one is the assistant's.

    Nothing of the first `given` messages is supervised.
    """

    messages: tuple[Message, ...]
    given: int = 0


@dataclass(frozen=True, slots=True)
class Continuation:
    """Plain text: `prompt` is context, `completion` what is to follow."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class Passage:
    """Plain text that is learned as a whole."""

    text: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A preferred and a rejected document, of one kind. What two passages begin with is context."""

    chosen: Conversation | Continuation | Passage
    rejected: Conversation | Continuation | Passage


@dataclass(frozen=True, slots=True)
class Judged:
    """One document and whether it is desirable."""

    answer: Conversation | Continuation
    desirable: bool


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text and its one label, or words and one label each."""

    text: str | tuple[str, ...]
    labels: tuple[str, ...]


Document = Conversation | Continuation | Passage | Pair | Judged | Labelled


class Dropped(Exception):
    """This row cannot be used; the message is the reason, the same for all rows alike."""


@dataclass(frozen=True, slots=True)
class RowReader:
    """How rows become documents.

    Attributes:
        columns: the columns it reads.
        is_chat: whether it makes conversations, which need a chat template.
        read: the document of a row. Raises `Dropped` when the row has none.
    """

    columns: tuple[str, ...]
    is_chat: bool
    read: Callable[[Row], Document]


def row_reader(format: Format, columns: Sequence[str], field: str = "dataset") -> RowReader:
    """The reader for `format`, which stands at `spec.FIELD.format`, on data that has `columns`.

    Raises:
        UserError: the format names a column that the data set does not have.
    """
    where = f"spec.{field}.format"
    match _chosen(format, where):
        case QuestionAnswer() as chosen:
            return _question_answer(chosen, columns, where)
        case Messages(messages=column):
            require_column(f"{where}.messages.messages", column, columns)
            return RowReader((column,), True, lambda row: read_conversation(row[column]))
        case ShareGpt(conversations=column):
            require_column(f"{where}.sharegpt.conversations", column, columns)
            return RowReader(
                (column,), True, lambda row: read_conversation(_as_messages(row[column]))
            )
        case PromptCompletion(prompt=prompt, completion=completion):
            require_column(f"{where}.promptCompletion.prompt", prompt, columns)
            require_column(f"{where}.promptCompletion.completion", completion, columns)
            return RowReader(
                (prompt, completion),
                False,
                lambda row: Continuation(text_of(row, prompt), text_of(row, completion)),
            )
        case Alpaca() as chosen:
            return _alpaca(chosen, columns, where)
        case Template() as chosen:
            return _template(chosen, columns, where)
        case Text(text=column):
            require_column(f"{where}.text.text", column, columns)
            return RowReader((column,), False, lambda row: Passage(text_of(row, column)))


def _chosen(
    format: Format, where: str
) -> QuestionAnswer | Messages | ShareGpt | PromptCompletion | Alpaca | Template | Text:
    members = [
        format.question_answer,
        format.messages,
        format.sharegpt,
        format.prompt_completion,
        format.alpaca,
        format.template,
        format.text,
    ]
    present = [member for member in members if member is not None]
    if len(present) != 1:
        raise UserError(f"{where} must have exactly one member: name one format.")
    return present[0]


def require_column(field: str, column: str, columns: Sequence[str]) -> None:
    """Raises `UserError` if `field` names a column that is not there."""
    if column not in columns:
        raise UserError(
            f'{field} names column "{column}", which the data set does not have; it has: '
            f"{', '.join(columns)}."
        )


def _question_answer(chosen: QuestionAnswer, columns: Sequence[str], where: str) -> RowReader:
    question, answer, system = chosen.question, chosen.answer, chosen.system
    require_column(f"{where}.questionAnswer.question", question, columns)
    require_column(f"{where}.questionAnswer.answer", answer, columns)
    if system is not None:
        require_column(f"{where}.questionAnswer.system", system, columns)

    def read(row: Row) -> Document:
        turns = exchange(text_of(row, question), text_of(row, answer))
        instruction = optional_text(row, system) if system is not None else ""
        if instruction:
            turns = ({"role": "system", "content": instruction}, *turns)
        return Conversation(turns)

    names = (question, answer) if system is None else (question, answer, system)
    return RowReader(names, True, read)


def _alpaca(chosen: Alpaca, columns: Sequence[str], where: str) -> RowReader:
    require_column(f"{where}.alpaca.instruction", chosen.instruction, columns)
    require_column(f"{where}.alpaca.output", chosen.output, columns)
    # Many such data sets have no inputs at all; a column that the user named must exist.
    has_input = chosen.input in columns
    if not has_input and chosen.input != Alpaca().input:
        require_column(f"{where}.alpaca.input", chosen.input, columns)

    def read(row: Row) -> Document:
        instruction = text_of(row, chosen.instruction)
        given = optional_text(row, chosen.input) if has_input else ""
        question = f"{instruction}\n\n{given}" if given else instruction
        return Conversation(exchange(question, text_of(row, chosen.output)))

    names = [chosen.instruction, chosen.output] + ([chosen.input] if has_input else [])
    return RowReader(tuple(names), True, read)


def _template(chosen: Template, columns: Sequence[str], where: str) -> RowReader:
    prompt = _placeholders(f"{where}.template.prompt", chosen.prompt, columns)
    completion = _placeholders(f"{where}.template.completion", chosen.completion, columns)

    def read(row: Row) -> Document:
        for name in completion:
            text_of(row, name)
        values = {name: optional_text(row, name) for name in {*prompt, *completion}}
        return Conversation(
            exchange(chosen.prompt.format(**values), chosen.completion.format(**values))
        )

    return RowReader(tuple(dict.fromkeys(prompt + completion)), True, read)


def _placeholders(field: str, template: str, columns: Sequence[str]) -> list[str]:
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise UserError(
            f"{field} is not a valid template ({error}): write columns as "
            "{column}, and braces of the text twice."
        ) from error
    names = []
    for _, name, specification, conversion in parts:
        if name is None:
            continue
        # Formatter reads {a.b} and {a[0]} as lookups; here a placeholder is a column's plain name.
        if specification or conversion or not name or set(".[") & set(name):
            raise UserError(
                f'{field} has the placeholder "{{{name}}}": write only a '
                "column's name in braces, without dots, brackets or format."
            )
        require_column(field, name, columns)
        names.append(name)
    if not names:
        raise UserError(f"{field} names no column: write one as {{column}}.")
    return names


def exchange(question: str, answer: str) -> tuple[Message, ...]:
    """A chat of two turns."""
    return (
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    )


def optional_text(row: Row, column: str) -> str:
    """The text of a cell, a number's too; "" for none. Raises `Dropped` for anything else."""
    value = row[column]
    if value is None:
        return ""
    if isinstance(value, str):
        return value if value.strip() else ""
    if isinstance(value, (int, float)):
        # How tables of numbers say that there is none.
        return "" if isinstance(value, float) and math.isnan(value) else str(value)
    raise Dropped(f'column "{column}" holds no text')


def text_of(row: Row, column: str) -> str:
    """The text of a cell. Raises `Dropped` if there is none."""
    text = optional_text(row, column)
    if not text:
        raise Dropped(f'column "{column}" is empty')
    return text


def read_conversation(value: Any) -> Conversation:
    """The conversation in a cell, up to its last answer. Raises `Dropped` if there is none."""
    messages = [_message(entry) for entry in _entries(value)]
    while messages and messages[-1]["role"] != "assistant":
        messages.pop()
    if not messages:
        raise Dropped("no assistant turn")
    if next(message["role"] for message in messages if message["role"] != "system") != "user":
        raise Dropped("the first turn is not the user's")
    return Conversation(tuple(messages))


def _as_messages(value: Any) -> Any:
    """ShareGPT's turns, `{"from", "value"}` each, as messages; what has another form stays as it is
    and is judged like one.
    """
    if isinstance(value, Mapping) and {"from", "value"} <= set(value):
        value = [
            {"from": speaker, "value": text}
            for speaker, text in zip(value["from"], value["value"], strict=True)
        ]
    if not isinstance(value, list):
        return value
    return [
        {"role": SPEAKERS.get(turn["from"], turn["from"]), "content": turn["value"]}
        if isinstance(turn, Mapping) and {"from", "value"} <= set(turn)
        else turn
        for turn in value
    ]


def _entries(value: Any) -> list[Any]:
    # A column of structs of lists instead of a list of structs: older data sets store it so.
    if isinstance(value, Mapping) and {"role", "content"} <= set(value):
        return [
            {"role": role, "content": content}
            for role, content in zip(value["role"], value["content"], strict=True)
        ]
    if not isinstance(value, list) or not value:
        raise Dropped("no messages")
    return value


def _message(entry: Any) -> Message:
    if not isinstance(entry, Mapping) or not {"role", "content"} <= set(entry):
        raise Dropped("messages without role and content")
    role, content = entry["role"], entry["content"]
    if entry.get("tool_calls") or role in ("tool", "function"):
        raise Dropped("tool calls are not supported")
    if role not in ROLES:
        raise Dropped(f'unknown role "{role}"')
    if isinstance(content, list):
        content = _joined(content)
    if not isinstance(content, str):
        raise Dropped("messages whose content is not text")
    if role == "assistant" and not content.strip():
        raise Dropped("an assistant turn is empty")
    return {"role": role, "content": content}


def _joined(parts: list[Any]) -> str:
    if not all(isinstance(part, Mapping) and part.get("type") == "text" for part in parts):
        raise Dropped("messages whose content is not text")
    return "".join(str(part.get("text") or "") for part in parts)

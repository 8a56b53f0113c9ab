"""Rows of every format, read as documents."""

from typing import Any

import pytest

from finetune_trainer.outcome import UserError
from finetune_trainer.prepare.format import (
    Continuation,
    Conversation,
    Document,
    Dropped,
    Passage,
    row_reader,
)
from finetune_trainer.run import Format


def read(format: dict[str, Any], row: dict[str, Any]) -> Document:
    return row_reader(Format.model_validate(format), list(row)).read(row)


def turns(document: Document) -> list[tuple[str, str]]:
    assert isinstance(document, Conversation)
    return [(message["role"], message["content"]) for message in document.messages]


def test_question_and_answer() -> None:
    row = {"q": "Why?", "a": "So.", "s": "Be brief."}
    names = {"question": "q", "answer": "a"}
    assert turns(read({"questionAnswer": names}, row)) == [("user", "Why?"), ("assistant", "So.")]
    with_system = read({"questionAnswer": {**names, "system": "s"}}, row)
    assert turns(with_system)[0] == ("system", "Be brief.")
    without = read({"questionAnswer": {**names, "system": "s"}}, {**row, "s": None})
    assert turns(without)[0] == ("user", "Why?")


def test_numbers_are_text() -> None:
    row = {"question": "1 + 1", "answer": 2}
    assert turns(read({"questionAnswer": {}}, row))[1] == ("assistant", "2")


def test_alpaca_joins_instruction_and_input() -> None:
    row = {"instruction": "Add.", "input": "1, 2", "output": "3"}
    assert turns(read({"alpaca": {}}, row))[0] == ("user", "Add.\n\n1, 2")
    assert turns(read({"alpaca": {}}, {**row, "input": ""}))[0] == ("user", "Add.")


def test_alpaca_without_inputs_needs_no_such_column() -> None:
    row = {"instruction": "Add.", "output": "3"}
    assert turns(read({"alpaca": {}}, row))[0] == ("user", "Add.")
    with pytest.raises(UserError, match='"context"'):
        read({"alpaca": {"input": "context"}}, row)


def test_template_fills_columns() -> None:
    template = {"prompt": "{{q}} {word}?", "completion": "{gloss}."}
    row = {"word": "cat", "gloss": "an animal {furry}"}
    assert turns(read({"template": template}, row)) == [
        ("user", "{q} cat?"),
        ("assistant", "an animal {furry}."),
    ]


@pytest.mark.parametrize("prompt", ["{nothing}", "{word.upper}", "{word[0]}", "{word!r}", "{", "x"])
def test_a_template_that_cannot_be_filled_is_refused(prompt: str) -> None:
    template = {"prompt": prompt, "completion": "{word}"}
    with pytest.raises(UserError, match=r"spec\.dataset\.format\.template\.prompt"):
        read({"template": template}, {"word": "cat"})


def test_plain_text_formats() -> None:
    assert read({"text": {}}, {"text": "All of it"}) == Passage("All of it")
    row = {"prompt": "a", "completion": "b"}
    assert read({"promptCompletion": {}}, row) == Continuation("a", "b")


def conversation(*messages: dict[str, Any]) -> Document:
    return read({"messages": {}}, {"messages": list(messages)})


USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Hello"}


def test_messages_are_cut_behind_the_last_answer() -> None:
    assert turns(conversation(USER, ASSISTANT, USER)) == [("user", "Hi"), ("assistant", "Hello")]


def test_content_in_text_parts_is_joined() -> None:
    parts = {
        "role": "user",
        "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}],
    }
    assert turns(conversation(parts, ASSISTANT))[0] == ("user", "Hi")


def test_messages_in_columns_of_lists_are_read() -> None:
    value = {"role": ["user", "assistant"], "content": ["Hi", "Hello"]}
    assert turns(read({"messages": {}}, {"messages": value}))[1] == ("assistant", "Hello")


def test_sharegpt_turns_are_messages_by_other_names() -> None:
    value = [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "Hi"},
        {"from": "gpt", "value": "Hello"},
        {"from": "human", "value": "Bye"},
    ]
    expected = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello")]
    assert turns(read({"sharegpt": {}}, {"conversations": value})) == expected
    columns = {key: [turn[key] for turn in value] for key in ("from", "value")}
    names = {"sharegpt": {"conversations": "chat"}}
    assert turns(read(names, {"chat": columns})) == expected


@pytest.mark.parametrize(
    ("speaker", "reason"),
    [
        ("function_call", "tool calls are not supported"),
        ("observation", "tool calls are not supported"),
        ("tool", "tool calls are not supported"),
        ("narrator", 'unknown role "narrator"'),
    ],
)
def test_sharegpt_turns_that_cannot_be_used_are_dropped(speaker: str, reason: str) -> None:
    value = [{"from": "human", "value": "Hi"}, {"from": speaker, "value": "Hello"}]
    with pytest.raises(Dropped) as caught:
        read({"sharegpt": {}}, {"conversations": value})
    assert str(caught.value) == reason


@pytest.mark.parametrize("value", [None, [], "text", [USER, ASSISTANT]])
def test_sharegpt_judges_other_forms_as_messages(value: Any) -> None:
    if value == [USER, ASSISTANT]:
        assert turns(read({"sharegpt": {}}, {"conversations": value}))[1][0] == "assistant"
        return
    with pytest.raises(Dropped, match="no messages"):
        read({"sharegpt": {}}, {"conversations": value})


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "no messages"),
        ([USER], "no assistant turn"),
        ([ASSISTANT], "the first turn is not the user's"),
        ([{"from": "human", "value": "Hi"}], "messages without role and content"),
        ([USER, {"role": "critic", "content": "No"}], 'unknown role "critic"'),
        ([USER, {"role": "tool", "content": "1"}], "tool calls are not supported"),
        ([USER, {**ASSISTANT, "tool_calls": [{}]}], "tool calls are not supported"),
        ([USER, {"role": "assistant", "content": " "}], "an assistant turn is empty"),
        ([{"role": "user", "content": None}, ASSISTANT], "messages whose content is not text"),
        (
            [{"role": "user", "content": [{"type": "image"}]}, ASSISTANT],
            "messages whose content is not text",
        ),
    ],
)
def test_messages_that_cannot_be_used_are_dropped(
    messages: list[dict[str, Any]], reason: str
) -> None:
    with pytest.raises(Dropped) as caught:
        conversation(*messages)
    assert str(caught.value) == reason


@pytest.mark.parametrize("value", [None, "", "  \n", ["a", "b"]])
def test_an_answer_without_text_is_dropped(value: Any) -> None:
    with pytest.raises(Dropped, match='column "answer"'):
        read({"questionAnswer": {}}, {"question": "a", "answer": value})


def test_exactly_one_format_is_needed() -> None:
    with pytest.raises(UserError, match="exactly one member"):
        read({}, {"text": "a"})
    with pytest.raises(UserError, match="exactly one member"):
        read({"text": {}, "alpaca": {}}, {"text": "a"})

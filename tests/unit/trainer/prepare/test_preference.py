"""Preference pairs in every form that TRL knows, from rows to what is supervised."""

from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.data.examples import Example, Examples
from finetune_trainer.outcome import UserError
from finetune_trainer.prepare import stage
from finetune_trainer.run import Run
from finetune_trainer.train.objectives.preference import answers_of
from finetune_trainer.workspace import Workspace
from unit.trainer.prepare.plans import plan, write_rows
from unit.trainer.tiny import tiny_tokenizer

USER = {"role": "user", "content": "Who?"}
GOOD = {"role": "assistant", "content": "Me"}
BAD = {"role": "assistant", "content": "No"}
QUESTION = "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"


def preferences(columns: dict[str, str] | None = None, **changes: Any) -> Run:
    dataset = {"format": {"preference": columns or {}}}
    return plan(task="Preference", dataset=dataset, **changes)


def prepared(workspace: Workspace, sources: Path, run: Run, *rows: dict[str, Any]) -> Examples:
    write_rows(sources / "dataset" / "rows.jsonl", rows)
    stage(run, workspace)
    return Examples(workspace.data / "train")


def shown(example: Example) -> str:
    """The text, what is supervised in brackets."""
    parts, inside = [], False
    tokenizer = tiny_tokenizer()
    for token, supervised in zip(example.tokens, example.supervised, strict=True):
        if bool(supervised) is not inside:
            parts.append("[" if supervised else "]")
            inside = bool(supervised)
        parts.append(tokenizer.decode([int(token)]))
    return "".join(parts) + ("]" if inside else "")


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ({}, {"chosen": [USER, GOOD], "rejected": [USER, BAD]}),
        ({"prompt": "prompt"}, {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}),
        (
            {"prompt": "prompt"},
            {"prompt": "Who?", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        ),
        (
            {"prompt": "q", "chosen": "yes", "rejected": "no"},
            {"q": [USER], "yes": "Me", "no": "No"},
        ),
    ],
    ids=["the prompt in both", "a prompt of its own", "a prompt said twice", "answers as text"],
)
def test_chats_are_rendered_and_only_the_answers_are_trained(
    workspace: Workspace, sources: Path, columns: dict[str, str], row: dict[str, Any]
) -> None:
    examples = prepared(workspace, sources, preferences(columns), row)
    chosen, rejected = answers_of(examples[0])
    assert shown(chosen) == QUESTION + "[Me<|im_end|>]\n"
    assert shown(rejected) == QUESTION + "[No<|im_end|>]\n"


def test_earlier_answers_belong_to_the_prompt(workspace: Workspace, sources: Path) -> None:
    before = [USER, GOOD, {"role": "user", "content": "You?"}]
    row = {"chosen": [*before, GOOD], "rejected": [*before, BAD]}
    chosen, _ = answers_of(prepared(workspace, sources, preferences(), row)[0])
    assert shown(chosen).count("[") == 1
    assert shown(chosen).endswith("assistant\n[Me<|im_end|>]\n")


def test_texts_follow_their_prompt_without_a_template(workspace: Workspace, sources: Path) -> None:
    row = {"prompt": "1+1=", "chosen": "2", "rejected": "33"}
    run = preferences({"prompt": "prompt"})
    chosen, rejected = answers_of(prepared(workspace, sources, run, row)[0])
    assert shown(chosen) == "1+1=[2<|im_end|>]"
    assert shown(rejected) == "1+1=[33<|im_end|>]"


def test_what_two_texts_begin_with_is_their_prompt(workspace: Workspace, sources: Path) -> None:
    row = {"chosen": "1+1=2", "rejected": "1+1=21"}
    chosen, rejected = answers_of(prepared(workspace, sources, preferences(), row)[0])
    assert shown(chosen) == "1+1=2[<|im_end|>]"
    assert shown(rejected) == "1+1=2[1<|im_end|>]"


def test_pairs_that_teach_nothing_are_dropped_with_their_reason(
    workspace: Workspace, sources: Path
) -> None:
    long = {"role": "assistant", "content": "x" * 100}
    rows = [
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"chosen": [USER, GOOD], "rejected": [USER, GOOD]},
        {"chosen": [USER, GOOD], "rejected": [USER, GOOD, USER, BAD]},
        {"chosen": [USER, GOOD], "rejected": [USER, long]},
        {"chosen": [USER, GOOD], "rejected": []},
    ]
    write_rows(sources / "dataset" / "rows.jsonl", rows)
    _, result = stage(preferences(), workspace)
    assert (result["rows"], result["rowsKept"]) == (5, 1)
    report = (workspace.prepare / "report.json").read_text()
    for reason in (
        "both answers are the same",
        "one answer is the beginning of the other",
        "both answers together are longer than spec.training.sequenceLength",
        "no messages",
    ):
        assert f'"{reason}": 1' in report


def test_a_missing_column_is_told_with_those_there_are(workspace: Workspace, sources: Path) -> None:
    with pytest.raises(
        UserError, match=r'spec\.dataset\.format\.preference\.rejected names column "rejected"'
    ):
        prepared(workspace, sources, preferences(), {"chosen": [USER, GOOD], "bad": [USER, BAD]})


def test_pairs_too_long_together_are_told_with_their_length(
    workspace: Workspace, sources: Path
) -> None:
    run = preferences(training={"sequenceLength": 48})
    with pytest.raises(UserError, match=r"sequenceLength \(48 tokens\): the shortest has 54 tok"):
        prepared(workspace, sources, run, {"chosen": [USER, GOOD], "rejected": [USER, BAD]})


def test_the_preview_shows_both_answers(workspace: Workspace, sources: Path) -> None:
    prepared(workspace, sources, preferences(), {"chosen": [USER, GOOD], "rejected": [USER, BAD]})
    text = (workspace.prepare / "preview.txt").read_text().replace(" ", "")
    assert "chosen:<|im_start|>" in text
    assert "⟦Me<|im_end|>⟧\n\nrejected:<|im_start|>" in text

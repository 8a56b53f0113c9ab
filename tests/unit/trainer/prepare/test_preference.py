"""Preference pairs in every form that TRL knows, from rows to what is supervised."""

from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.data.answers import answers_of
from finetune_trainer.data.examples import Example, Examples
from finetune_trainer.outcome import UserError
from finetune_trainer.prepare import stage
from finetune_trainer.run import Run
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


JUDGED = {"prompt": "prompt", "completion": "completion"}
KTO = {"preference": {"loss": "KTO"}}


def judged(columns: dict[str, str] | None = None, **changes: Any) -> Run:
    return preferences(columns or JUDGED, **{"training": KTO, **changes})


def answer(prompt: Any, completion: Any, label: Any) -> dict[str, Any]:
    return {"prompt": prompt, "completion": completion, "label": label}


def test_judged_answers_follow_their_prompt(workspace: Workspace, sources: Path) -> None:
    examples = prepared(
        workspace, sources, judged(), answer("1+1=", "2", True), answer("1+1=", "33", False)
    )
    (good,), (bad,) = answers_of(examples[0]), answers_of(examples[1])
    assert (shown(good), int(good.labels[0])) == ("1+1=[2<|im_end|>]", 1)
    assert (shown(bad), int(bad.labels[0])) == ("1+1=[33<|im_end|>]", 0)


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        ([USER], [GOOD]),
        ([USER], "Me"),
        ("Who?", [USER, GOOD]),
    ],
    ids=["messages", "an answer as text", "the prompt in the answer"],
)
def test_judged_chats_are_rendered(
    workspace: Workspace, sources: Path, prompt: Any, completion: Any
) -> None:
    rows = [answer(prompt, completion, True), answer(prompt, completion, False)]
    (good,) = answers_of(prepared(workspace, sources, judged(), *rows)[0])
    assert shown(good) == QUESTION + "[Me<|im_end|>]\n"


def test_all_turns_of_a_judged_answer_are_trained(workspace: Workspace, sources: Path) -> None:
    turns = [GOOD, {"role": "user", "content": "You?"}, BAD]
    rows = [answer([USER], turns, True), answer([USER], [BAD], False)]
    (good,) = answers_of(prepared(workspace, sources, judged(), *rows)[0])
    text = shown(good)
    assert text.startswith(QUESTION + "[Me<|im_end|>]")
    assert text.endswith("assistant\n[No<|im_end|>]\n")


@pytest.mark.parametrize(("good", "bad"), [(1, 0), ("True", "false"), ("1", " 0 ")])
def test_labels_may_be_numbers_or_the_words_of_a_csv_file(
    workspace: Workspace, sources: Path, good: Any, bad: Any
) -> None:
    rows = [answer("a", "b", good), answer("a", "c", bad)]
    examples = prepared(workspace, sources, judged(), *rows)
    assert [int(answers_of(each)[0].labels[0]) for each in (examples[0], examples[1])] == [1, 0]


def test_judged_answers_that_teach_nothing_are_dropped_with_their_reason(
    workspace: Workspace, sources: Path
) -> None:
    rows = [
        answer("1+1=", "2", True),
        answer("1+1=", "3", False),
        answer("1+1=", "4", None),
        answer("", "5", False),
        answer("1+1=", "6" * 200, False),
    ]
    write_rows(sources / "dataset" / "rows.jsonl", rows)
    _, result = stage(judged(), workspace)
    assert (result["rows"], result["rowsKept"]) == (5, 2)
    report = (workspace.prepare / "report.json").read_text()
    for reason in (
        'column \\"label\\" holds neither true nor false',
        'column \\"prompt\\" is empty',
        "longer than spec.training.sequenceLength",
    ):
        assert f'"{reason}": 1' in report


@pytest.mark.parametrize(
    ("run", "rows", "sentence"),
    [
        (
            judged(),
            [answer("a", "b", "good"), answer("a", "c", "bad")],
            r'2 rows: column "label" holds neither true nor false\): correct spec\.dataset\.format',
        ),
        (
            judged(),
            [answer("a", "b", False)] * 3,
            r"is labelled undesirable, and there is nothing to tell apart: check "
            r"spec\.dataset\.format\.preference\.label and spec\.dataset\.split\.",
        ),
        (
            judged({**JUDGED, "label": "liked"}),
            [answer("a", "b", True)],
            r'preference\.label names column "liked", which the data set does not have',
        ),
        (
            judged({"completion": "completion"}),
            [answer("a", "b", True)],
            r"preference\.completion needs the column that it follows: set spec\.dataset\.format"
            r"\.preference\.prompt",
        ),
        (
            preferences(JUDGED),
            [answer("a", "b", True)],
            r"spec\.training\.preference\.loss DPO compares two answers, but spec\.dataset\.format"
            r"\.preference\.completion is one: set loss to KTO, or name the columns chosen",
        ),
    ],
    ids=["no truth values", "one class", "no such column", "no prompt", "one answer for DPO"],
)
def test_judged_answers_that_cannot_be_learned_from_are_refused(
    run: Run, rows: list[dict[str, Any]], sentence: str, workspace: Workspace, sources: Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        prepared(workspace, sources, run, *rows)


@pytest.mark.parametrize(
    ("good", "weight", "line"),
    [
        (1, "1", "1 desirable, 1 undesirable"),
        (
            3,
            "1",
            "3 desirable, 1 undesirable; with their weights 3.00 to 1, where 1 to 1.33 is advised: "
            "see spec.training.preference.desirableWeight and undesirableWeight",
        ),
        (3, "0.4", "3 desirable, 1 undesirable"),
    ],
)
def test_one_kind_of_answers_that_counts_much_more_is_told(
    good: int,
    weight: str,
    line: str,
    workspace: Workspace,
    sources: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = judged(training={"preference": {"loss": "KTO", "desirableWeight": weight}})
    rows = [answer("a", "b", True)] * good + [answer("a", "c", False)]
    prepared(workspace, sources, run, *rows)
    assert f"answers       {line}\n" in capsys.readouterr().out


def test_kto_learns_from_pairs_too(workspace: Workspace, sources: Path) -> None:
    run = preferences(training=KTO)
    examples = prepared(workspace, sources, run, {"chosen": [USER, GOOD], "rejected": [USER, BAD]})
    assert [int(each.labels[0]) for each in answers_of(examples[0])] == [1, 0]


def test_the_preview_shows_what_is_desirable(workspace: Workspace, sources: Path) -> None:
    prepared(workspace, sources, judged(), answer("a", "b", True), answer("a", "c", False))
    text = (workspace.prepare / "preview.txt").read_text().replace(" ", "")
    assert "\ndesirable:a⟦b<|im_end|>⟧" in text
    assert "\nundesirable:a⟦c<|im_end|>⟧" in text


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

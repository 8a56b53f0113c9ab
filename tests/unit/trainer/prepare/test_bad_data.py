"""Data that cannot be trained on: each ends with exit code 10 and one sentence that says what to
change. `pytest -rP` on this file prints them.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from finetune_trainer.outcome import Outcome, run_stage
from finetune_trainer.prepare import stage
from finetune_trainer.workspace import Workspace
from unit.trainer.prepare.plans import plan, questions
from unit.trainer.tiny import CHATML, write_tiny_model

ROWS = "".join(json.dumps(row) + "\n" for row in questions(40))
LONG = json.dumps({"question": "Why?", "answer": "x" * 200}) + "\n"
DATA = "The data set on claim data"
NO_ROWS = 'spec.dataset.split "train" has no rows: name a split or slice that has some.'
AGAIN = "pack it again, or bring it here again."


@dataclass(frozen=True)
class Bad:
    """A file of bad data, or a plan that does not fit good data, and the sentence it ends with."""

    what: str
    sentence: str
    name: str = "rows.jsonl"
    content: bytes | str | Callable[[Path], object] = ROWS
    plan: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.what


def dataset(**changes: Any) -> dict[str, Any]:
    return {"dataset": changes}


def table(**columns: list[Any]) -> Callable[[Path], object]:
    return lambda path: parquet.write_table(pa.table(columns), path)


def cut_table(path: Path) -> None:
    table(question=["a"] * 3000, answer=["b"] * 3000)(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def small_vocabulary(path: Path) -> None:
    path.write_text(ROWS)
    write_tiny_model(path.parents[1] / "model" / "small", vocab_size=50)


BAD = (
    # the plan and the data
    Bad(
        "a missing column",
        'spec.dataset.format.questionAnswer.question names column "problem", which the data set '
        "does not have; it has: question, answer.",
        plan=dataset(format={"questionAnswer": {"question": "problem"}}),
    ),
    Bad(
        "a split that is not there",
        'spec.dataset.split names "trian"; the data set has: train.',
        plan=dataset(split="trian[:10]"),
    ),
    Bad(
        "a slice in words",
        'spec.dataset.split is "train[a:b]", which is not a split with a slice such as '
        "train[:1000] or train[10%:20%]: Unrecognized instruction format: train[a:b].",
        plan=dataset(split="train[a:b]"),
    ),
    Bad("an empty slice", NO_ROWS.replace("train", "train[40:]"), plan=dataset(split="train[40:]")),
    Bad(
        "a slice that ends before it begins",
        NO_ROWS.replace("train", "train[30:10]"),
        plan=dataset(split="train[30:10]"),
    ),
    Bad(
        "one of two slices ends before it begins",
        NO_ROWS.replace("train", "train[:10]+train[30:10]"),
        plan=dataset(split="train[:10]+train[30:10]"),
    ),
    Bad(
        "one row, and a part of it held out",
        "spec.dataset.validation.fraction cannot split 1 row: name more rows, or leave validation "
        "out.",
        content=ROWS[: ROWS.index("\n") + 1],
        plan=dataset(validation={"fraction": "0.1"}),
    ),
    Bad(
        "validation on rows that are trained on",
        'spec.dataset.validation.split "train[:10]" has 10 rows of spec.dataset.split "train", and '
        "a row that is trained on proves nothing: set slices that share no row, or "
        "spec.dataset.validation.fraction.",
        plan=dataset(validation={"split": "train[:10]"}),
    ),
    Bad(
        "rows longer than the sequence",
        "Every row of the training data is longer than spec.training.sequenceLength (128 tokens): "
        "the shortest has 225 tokens, 95 % have at most 225.",
        content=LONG * 3,
    ),
    Bad(
        "passages cut to nothing that could be predicted",
        "No token of the training data is supervised, so nothing would be learned: check "
        "spec.dataset.loss and spec.dataset.format.",
        content='{"text": "abc"}\n',
        plan={**dataset(format={"text": {}}), "training": {"sequenceLength": 1}},
    ),
    Bad(
        "a template without a stop token",
        "The chat template closes the assistant's turn with no special token, so the model would "
        "never learn to stop: set spec.model.chatTemplate to one that writes <|im_end|> after it.",
        plan={"model": {"chatTemplate": "{% for m in messages %}{{ m.content }}\n{% endfor %}"}},
    ),
    Bad(
        "a template that leaves the answer out",
        "The chat template does not write the assistant's answer as it is: set "
        "spec.model.chatTemplate to one that does.",
        plan={"model": {"chatTemplate": "{{ messages[0].content }}<|im_end|>"}},
    ),
    Bad(
        "a template with an error",
        "The chat template has an error in line 4 (unexpected 'end of template'): correct "
        "spec.model.chatTemplate.",
        plan={"model": {"chatTemplate": CHATML + "{% if"}},
    ),
    Bad(
        "a tokenizer of another model",
        "The tokenizer makes token 99, but the model knows only 50: set spec.model.source to a "
        "model whose files belong together.",
        content=small_vocabulary,
        plan={"model": {"source": "pvc://models/small"}},
    ),
    # values
    Bad(
        "answers that are null or NaN",
        'No row of the training data can be used (2 rows: column "answer" is empty): correct '
        "spec.dataset.format or the data.",
        content='{"question": "a", "answer": null}\n{"question": "a", "answer": NaN}\n',
    ),
    Bad(
        "NaN in a table",
        'No row of the training data can be used (2 rows: column "answer" is empty): correct '
        "spec.dataset.format or the data.",
        name="rows.parquet",
        content=table(question=["a", "b"], answer=[float("nan"), None]),
    ),
    Bad(
        "answers that are lists",
        'No row of the training data can be used (1 rows: column "answer" holds no text): correct '
        "spec.dataset.format or the data.",
        content='{"question": "a", "answer": ["b"]}\n',
    ),
    Bad(
        "no assistant in any conversation",
        "No row of the training data can be used (1 rows: no assistant turn): correct "
        "spec.dataset.format or the data.",
        content='{"messages": [{"role": "user", "content": "Hi"}]}\n',
        plan=dataset(format={"messages": {}}),
    ),
    # files
    Bad("an empty file", NO_ROWS, content=""),
    Bad("a file of blank lines", NO_ROWS, content="\n\n"),
    Bad("a list of nothing", NO_ROWS, "rows.json", "[]"),
    Bad("a heading alone", NO_ROWS, "rows.csv", "question,answer\n"),
    Bad(
        "an empty table",
        NO_ROWS,
        "rows.parquet",
        table(question=pa.array([], pa.string()), answer=pa.array([], pa.string())),
    ),
    Bad(
        "a csv file without a byte",
        f'{DATA} cannot be read: "rows.csv" is empty: fill it, or take it away.',
        "rows.csv",
        "",
    ),
    Bad(
        "a line that is no JSON",
        f'{DATA} cannot be read: "rows.jsonl" is not JSON in line 41 (Expecting value): correct '
        "the line.",
        content=f'{ROWS}{{"question": "a", "answer": \n{ROWS}',
    ),
    Bad(
        "a packed line that is no JSON",
        f'{DATA} cannot be read: "rows.jsonl.gz" is not JSON in line 41 (Expecting value): correct '
        "the line.",
        "rows.jsonl.gz",
        gzip.compress(f'{ROWS}{{"question": "a", "answer": \n'.encode()),
    ),
    Bad(
        "a document that was cut off",
        f'{DATA} cannot be read: "rows.json" is not JSON in line 1 (Unterminated string starting '
        "at): correct the line.",
        "rows.json",
        json.dumps(questions(40))[:-30],
    ),
    Bad(
        "lines that are no objects",
        f'{DATA} cannot be read: "rows.jsonl" has no JSON object in line 1: write one row a line, '
        "as an object with columns as keys.",
        content="[1, 2]\n[3, 4]\n",
    ),
    Bad(
        "half a character",
        f'{DATA} cannot be read: "rows.jsonl" has half of a surrogate pair in line 41: take the '
        "character out.",
        content=ROWS + '{"question": "\\ud800", "answer": "b"}\n',
    ),
    Bad(
        "Latin-1",
        f'{DATA} cannot be read: "rows.jsonl" is not UTF-8 in line 41: convert it, for example '
        "with iconv -t UTF-8.",
        content=(ROWS + '{"question": "Käse", "answer": "ja"}\n').encode("latin-1"),
    ),
    Bad(
        "Latin-1 in a csv file",
        f'{DATA} cannot be read: "rows.csv" is not UTF-8 in line 2: convert it, for example with '
        "iconv -t UTF-8.",
        "rows.csv",
        "question,answer\nKäse,ja\n".encode("latin-1"),
    ),
    Bad(
        "UTF-16",
        f'{DATA} cannot be read: "rows.jsonl" is not UTF-8 in line 1: convert it, for example with '
        "iconv -t UTF-8.",
        content=ROWS.encode("utf-16"),
    ),
    Bad(
        "a row with more cells than the heading",
        f"{DATA} cannot be read as rows (Error tokenizing data. C error: Expected 2 fields in line "
        "3, saw 3): correct its files.",
        "rows.csv",
        "question,answer\na,b\nc,d,e\n",
    ),
    Bad(
        "a gz file that was cut off",
        f'{DATA} cannot be read: "rows.jsonl.gz" is damaged (Compressed file ended before the '
        f"end-of-stream marker was reached): {AGAIN}",
        "rows.jsonl.gz",
        gzip.compress(ROWS.encode())[:-100],
    ),
    Bad(
        "a gz file that is none",
        f'{DATA} cannot be read: "rows.jsonl.gz" is damaged (Not a gzipped file (b\'{{"\')): '
        f"{AGAIN}",
        "rows.jsonl.gz",
    ),
    Bad(
        "a zst file that was cut off",
        f'{DATA} cannot be read: "rows.jsonl.zst" is damaged (its end is missing): {AGAIN}',
        "rows.jsonl.zst",
        zstandard.compress(ROWS.encode())[:-20],
    ),
    Bad(
        "a zst file that is none",
        f'{DATA} cannot be read: "rows.jsonl.zst" is damaged (zstd decompressor error: Unknown '
        f"frame descriptor): {AGAIN}",
        "rows.jsonl.zst",
    ),
    Bad(
        "a table that was cut off",
        f'{DATA} cannot be read: "rows.parquet" is damaged (no Parquet file, or cut off): write it '
        "again.",
        "rows.parquet",
        cut_table,
    ),
    Bad(
        "a format that nobody reads",
        'spec.dataset.source names "rows.xlsx", whose ending tells no format that is known: name a '
        "file that ends in one of .parquet, .jsonl, .json, .csv, packed as .gz or .zst or not.",
        "rows.xlsx",
    ),
    Bad(
        "a folder without data",
        f"{DATA} has no data files: put some there that end in one of .parquet, .jsonl, .json, "
        ".csv, packed as .gz or .zst or not.",
        "folder",
        Path.mkdir,
    ),
    Bad(
        "a file that is not there",
        'spec.dataset.source names "rows.jsonl", which claim data does not hold: check the path.',
        content=lambda _: None,
    ),
)


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_bad_data_end_the_stage_with_a_sentence(
    bad: Bad,
    workspace: Workspace,
    sources: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("FINETUNE_TERMINATION_LOG", str(tmp_path / "log"))
    (sources / "dataset" / "rows.jsonl").unlink()
    path = sources / "dataset" / bad.name
    if callable(bad.content):
        bad.content(path)
    else:
        path.write_bytes(bad.content if isinstance(bad.content, bytes) else bad.content.encode())
    source = {"source": f"pvc://data/{bad.name}"}
    changes = {**bad.plan, "dataset": {**source, **bad.plan.get("dataset", {})}}
    code = run_stage("prepare", lambda: stage(plan(**changes), workspace), workspace)
    document = json.loads((tmp_path / "log").read_text())
    print(f"{bad.what}: {document['message']}")
    assert (code, document["message"]) == (Outcome.USER_ERROR, bad.sentence)
    assert not workspace.data.exists()

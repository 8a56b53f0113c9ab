"""Files of every format and packing, and that their values arrive as they are."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from finetune_trainer.data.examples import Examples
from finetune_trainer.prepare import stage
from finetune_trainer.workspace import Workspace
from unit.trainer.prepare.plans import plan, questions, texts

ROWS = questions(40)
CONTENTS = {
    "jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    "json": json.dumps(ROWS),
    "csv": "question,answer\n" + "".join(f"{r['question']},{r['answer']}\n" for r in ROWS),
}


def trained(workspace: Workspace, name: str, **dataset: Any) -> list[str]:
    stage(plan(dataset={"source": f"pvc://data/{name}", **dataset}), workspace)
    return texts(Examples(workspace.data / "train"))


@pytest.fixture
def expected(sources: Path, tmp_path: Path) -> list[str]:
    """The examples of the 40 rows."""
    del sources
    return trained(Workspace(tmp_path / "first"), "rows.jsonl")


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", CONTENTS)
def test_every_format_holds_the_same_rows_packed_or_not(
    workspace: Workspace, sources: Path, expected: list[str], kind: str, packing: str
) -> None:
    plain = CONTENTS[kind].encode()
    packed = {"": plain, ".gz": gzip.compress(plain), ".zst": zstandard.compress(plain)}
    (sources / "dataset" / f"data.{kind}{packing}").write_bytes(packed[packing])
    assert trained(workspace, f"data.{kind}{packing}") == expected


def test_parquet_holds_the_same_rows_in_groups_of_any_size(
    workspace: Workspace, sources: Path, expected: list[str]
) -> None:
    table = pa.Table.from_pylist(ROWS)
    parquet.write_table(table, sources / "dataset" / "data.parquet", row_group_size=7)
    assert trained(workspace, "data.parquet") == expected


def test_files_packed_in_several_pieces_are_read_to_their_end(
    workspace: Workspace, sources: Path
) -> None:
    lines = CONTENTS["jsonl"].encode()
    folder = sources / "dataset" / "many"
    folder.mkdir()
    (folder / "a.jsonl.zst").write_bytes(zstandard.compress(lines) * 2)
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines) * 2)
    assert len(trained(workspace, "many")) == 160


def test_a_config_map_is_read_through_its_links(
    workspace: Workspace, sources: Path, expected: list[str]
) -> None:
    """As a kubelet mounts it: the key is a link into a folder that is a link."""
    mount = sources / "dataset"
    (mount / "..2026").mkdir()
    (mount / "rows.jsonl").rename(mount / "..2026" / "rows.jsonl")
    (mount / "..data").symlink_to("..2026")
    (mount / "rows.jsonl").symlink_to("..data/rows.jsonl")
    stage(plan(dataset={"source": "configmap://words/rows.jsonl"}), workspace)
    assert texts(Examples(workspace.data / "train")) == expected


def test_cells_of_a_csv_file_are_text_as_it_stands_there(
    workspace: Workspace, sources: Path
) -> None:
    rows = "question,answer\n007,None\nNA,1.50\ntrue,1e3\n,x\n"
    (sources / "dataset" / "cells.csv").write_text(rows)
    template = {"template": {"prompt": "{question}", "completion": "{answer}"}}
    found = trained(workspace, "cells.csv", format=template)
    cut = [text.split("\n") for text in found]
    assert [(lines[1], lines[3]) for lines in cut] == [
        ("007<|im_end|>", "None<|im_end|>"),
        ("NA<|im_end|>", "1.50<|im_end|>"),
        ("true<|im_end|>", "1e3<|im_end|>"),
        ("<|im_end|>", "x<|im_end|>"),
    ]


def test_values_of_several_types_in_one_column_are_themselves(
    workspace: Workspace, sources: Path
) -> None:
    rows = [*ROWS, {"question": 5, "answer": 6}, {"question": "a", "answer": ["b"]}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (sources / "dataset" / "mixed.jsonl").write_text(lines)
    found = trained(workspace, "mixed.jsonl")
    assert found[0].endswith("assistant\n1<|im_end|>\n")
    assert found[-1] == ("<|im_start|>user\n5<|im_end|>\n<|im_start|>assistant\n6<|im_end|>\n")
    assert len(found) == 41


@pytest.mark.parametrize(
    ("split", "rows"),
    [
        ("train[:7]", range(7)),
        ("train[30:]", range(30, 40)),
        ("train[-5:]", range(35, 40)),
        ("train[25%:50%]", range(10, 20)),
        ("train[:2]+train[38:]", (0, 1, 38, 39)),
    ],
)
def test_a_slice_is_exactly_those_rows(
    workspace: Workspace, expected: list[str], split: str, rows: Any
) -> None:
    assert trained(workspace, "rows.jsonl", split=split) == [expected[row] for row in rows]

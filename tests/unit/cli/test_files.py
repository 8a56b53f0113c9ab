"""YAML is read as kubectl reads it; what cannot be read is told in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_cli.errors import CliError, Exit
from finetune_cli.files import documents


def written(tmp_path: Path, content: str | bytes) -> str:
    path = tmp_path / "run.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_every_document_knows_where_it_stands(tmp_path: Path) -> None:
    path = written(tmp_path, "a: 1\n---\n---\nb: 2\n")
    found = [(item.where, item.content) for item in documents(path)]
    assert found == [(f"{path} (document 1)", {"a": 1}), (f"{path} (document 2)", {"b": 2})]


@pytest.mark.parametrize(
    ("text", "value"),
    [("2e-4", 2e-4), ("'2e-4'", "2e-4"), ("2026-01-31", "2026-01-31"), ("yes", True), ("010", 8)],
)
def test_scalars_are_what_kubectl_takes_them_for(tmp_path: Path, text: str, value: object) -> None:
    assert documents(written(tmp_path, f"a: {text}"))[0].content == {"a": value}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", " is empty: `kubectl finetune init` writes a FineTuneJob."),
        ("a: 1\na: 2\n", ', line 2 is not YAML: the key "a" is there twice.'),
        ("a: [1\nb: 2", ", line 2 is not YAML: expected ',' or ']', but got ':'."),
        (b"\xff\xfe\x00", " cannot be read: it is not UTF-8 text."),
        ("a: !!python/object:os.system x", ", line 1 is not YAML: could not determine"),
        ("[" * 5000, " is not YAML: "),
    ],
    ids=["empty", "key twice", "open bracket", "not text", "foreign tag", "deep"],
)
def test_what_is_no_yaml_is_told_with_its_line(
    tmp_path: Path, content: str | bytes, sentence: str
) -> None:
    path = written(tmp_path, content)
    with pytest.raises(CliError) as raised:
        documents(path)
    assert raised.value.message.startswith(f"{path}{sentence}")
    assert raised.value.code == Exit.BAD


def test_a_missing_file_and_a_directory_are_told(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="does not exist: name a file, or write one with"):
        documents(str(tmp_path / "none.yaml"))
    with pytest.raises(CliError, match="is a directory: name the files in it"):
        documents(str(tmp_path))

"""Links and cards that name files of the pod: its tokens must not become a model or data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from finetune_trainer.outcome import UserError
from finetune_trainer.prepare import stage
from finetune_trainer.prepare.source import HubSource
from finetune_trainer.workspace import Workspace
from unit.trainer.prepare.plans import plan, questions, write_rows

HUB = HubSource("dataset", "acme/data", "main", None)


@pytest.fixture
def secret(tmp_path: Path, sources: Path) -> Path:
    """A file of the pod that is a data set too, so that only where it lies is against it."""
    del sources
    return write_rows(tmp_path / "secrets" / "dataset" / "token.jsonl", questions(5))


def test_a_models_file_may_not_be_a_link_out_of_the_claim(
    workspace: Workspace, sources: Path, secret: Path
) -> None:
    (sources / "model" / "tiny" / "NOTICE.txt").symlink_to(secret)
    with pytest.raises(UserError, match=r'"tiny/NOTICE\.txt" on claim models is a link out'):
        stage(plan(), workspace)
    assert not (workspace.model / "NOTICE.txt").exists()


def test_a_hub_cache_of_links_inside_the_claim_is_a_model(
    workspace: Workspace, sources: Path
) -> None:
    model, blobs = sources / "model" / "tiny", sources / "model" / "blobs"
    shutil.move(model, blobs)
    model.mkdir()
    for file in blobs.iterdir():
        (model / file.name).symlink_to(Path("..") / "blobs" / file.name)
    stage(plan(), workspace)
    assert not (workspace.model / "config.json").is_symlink()


@pytest.mark.parametrize("path", ["rows-2.jsonl", "folder"])
def test_data_may_not_be_a_link_out_of_the_claim(
    workspace: Workspace, sources: Path, secret: Path, path: str
) -> None:
    target = secret if path.endswith(".jsonl") else secret.parent
    (sources / "dataset" / path).symlink_to(target)
    with pytest.raises(UserError, match=rf'"{path}" on claim data is a link out of the claim: put'):
        stage(plan(dataset={"source": f"pvc://data/{path}"}), workspace)


def test_a_folder_may_not_hold_a_link_out_of_the_claim(
    workspace: Workspace, sources: Path, secret: Path
) -> None:
    (sources / "dataset" / "more").mkdir()
    (sources / "dataset" / "more" / "train.jsonl").symlink_to(secret)
    with pytest.raises(UserError, match="as one of its data files, which is not there"):
        stage(plan(dataset={"source": "pvc://data/more"}), workspace)


@pytest.mark.parametrize("prefix", ["", "file://", "../../secrets/dataset/", "simplecache::"])
def test_a_card_may_not_name_files_of_the_pod(
    workspace: Workspace, sources: Path, secret: Path, prefix: str
) -> None:
    folder = sources / "dataset" / "carded"
    write_rows(folder / "train.jsonl", questions(5))
    name = f"../{prefix}{secret.name}" if prefix.startswith("..") else f"{prefix}{secret}"
    card = f"---\nconfigs:\n- config_name: default\n  data_files: {name}\n---\n"
    (folder / "README.md").write_text(card)
    with pytest.raises(UserError):
        stage(plan(dataset={"source": "pvc://data/carded"}), workspace)


def test_a_card_may_say_which_of_the_claims_files_are_meant(
    workspace: Workspace, sources: Path
) -> None:
    folder = sources / "dataset" / "carded"
    write_rows(folder / "a.jsonl", questions(5))
    write_rows(folder / "b.jsonl", questions(9))
    card = "---\nconfigs:\n- config_name: default\n  data_files: b.jsonl\n---\n"
    (folder / "README.md").write_text(card)
    _, result = stage(plan(dataset={"source": "pvc://data/carded"}), workspace)
    assert result["rows"] == 9


@pytest.mark.parametrize(
    ("file", "held"),
    [
        ("hf://datasets/acme/data@0123/train.jsonl", True),
        ("https://example.com/train.jsonl", True),
        ("/var/run/secrets/finetune/dataset/token", False),
        ("file:///var/run/secrets/finetune/dataset/token", False),
        ("local://var/run/secrets", False),
        ("hf://datasets/acme/data::file:///var/run/secrets", False),
        ("relative", False),
    ],
)
def test_a_card_on_the_hub_may_not_name_files_of_the_pod(file: str, held: bool) -> None:
    assert HUB.holds(file) is held

import shutil
from pathlib import Path

import pytest

from finetune_trainer.workspace import Workspace
from unit.trainer.prepare.plans import questions, write_rows
from unit.trainer.tiny import write_tiny_model


@pytest.fixture(scope="session")
def tiny_model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def sources(tmp_path: Path, tiny_model_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two mounted claims: a model in `model/tiny`, 40 rows in `dataset/rows.jsonl`."""
    root = tmp_path / "sources"
    (root / "model").mkdir(parents=True)
    shutil.copytree(tiny_model_directory, root / "model" / "tiny")
    write_rows(root / "dataset" / "rows.jsonl", questions(40))
    monkeypatch.setenv("FINETUNE_SOURCES", str(root))
    monkeypatch.setenv("FINETUNE_SECRETS", str(tmp_path / "secrets"))
    return root


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")

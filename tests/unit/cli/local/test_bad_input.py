"""`finetune run` from outside: what cannot run is told in one sentence before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_cli.errors import Exit
from unit.cli.calls import Ended, cli
from unit.operator.builders import MINIMAL, merged

ROOT = Path(__file__).parents[4]
TRAINER = f"{ROOT / 'operator'}:{ROOT / 'trainer-image'}"


def written(folder: Path, **spec: Any) -> Path:
    """A file with one run."""
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(document(**spec)))
    return file


def document(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "demo"},
        "spec": merged(MINIMAL, {"upload": None, **spec}),
    }


def run(folder: Path, file: Path, *options: str, **env: str) -> Ended:
    environment = {"PYTHONPATH": TRAINER, "CUDA_VISIBLE_DEVICES": "", **env}
    return cli("run", str(file), "--workspace", str(folder / "demo"), *options, **environment)


TABLE: list[tuple[dict[str, Any], list[str], int, str]] = [
    (
        {"resources": {"nodes": 2}},
        [],
        Exit.BAD,
        "spec.resources.nodes is 2, and here is one machine",
    ),
    (
        {"resources": {"gpusPerNode": 3}},
        [],
        Exit.BAD,
        "spec.resources.gpusPerNode is 3, and torch sees 0 here: say --gpus 0 to train on the CPU",
    ),
    ({"suspend": True}, [], Exit.BAD, "spec.suspend is true, so nothing would run"),
    ({"method": {"lora": {"rnk": 1}}}, [], Exit.BAD, "spec.method.lora.rnk: is not a field"),
    (
        {"model": {"source": "pvc://models/base"}},
        [],
        Exit.BAD,
        "spec.model.source is on the claim models",
    ),
    (
        {
            "model": {"source": "pvc://models/base"},
            "dataset": {"source": "pvc://rows/all.jsonl"},
        },
        [],
        Exit.BAD,
        "say --volume models=DIR with the directory that holds the same. spec.dataset.source is on "
        "the claim rows, which is in no cluster here: say --volume rows=DIR",
    ),
    (
        {"upload": {"repository": "a/b", "tokenSecretRef": {"name": "hf"}}},
        [],
        Exit.BAD,
        "spec.upload.tokenSecretRef names the Secret hf, which is in no cluster here: put the "
        "token into HF_TOKEN",
    ),
    ({}, ["--volume", "models"], Exit.USAGE, '--volume "models" must be NAME=DIR.'),
    ({}, ["--secret", "hf=/none"], Exit.BAD, "--secret hf: /none is not a file"),
    ({}, ["--gpus", "-1"], Exit.USAGE, "-1 is not in the range"),
    ({}, ["--python", "/none"], Exit.NOT_FOUND, "/none cannot be run (No such file or directory)"),
    ({}, ["--python", "/bin/false"], Exit.NOT_FOUND, "/bin/false fails (no explanation)"),
    ({}, ["--workspace", "/dev/null"], Exit.BAD, "/dev/null is not a directory"),
    ({}, ["--workspace", "/dev/null/x"], Exit.BAD, "/dev/null/x cannot be used (Not a directory)"),
]


@pytest.mark.parametrize(
    ("spec", "options", "code", "sentence"), TABLE, ids=[row[3][:40] for row in TABLE]
)
def test_bad_input_is_told_in_a_sentence(
    tmp_path: Path, spec: dict[str, Any], options: list[str], code: int, sentence: str
) -> None:
    ended = run(tmp_path, written(tmp_path, **spec), *options)
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr.startswith("error: ")
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "demo").exists()


def test_a_python_without_the_trainer_is_told_how_to_get_it(tmp_path: Path) -> None:
    ended = run(tmp_path, written(tmp_path), PYTHONPATH=str(ROOT / "operator"))
    assert ended.returncode == Exit.NOT_FOUND
    assert "has no finetune_trainer: install the trainer with `" in ended.stderr
    assert "-m pip install ./trainer-image`" in ended.stderr


def test_a_file_has_one_run(tmp_path: Path) -> None:
    file = tmp_path / "runs.yaml"
    file.write_text(yaml.safe_dump_all([document(), document()]))
    assert "has 2 FineTuneJobs, and this is about one" in run(tmp_path, file).stderr

"""The questions of `init`: a wrong answer is asked for again, and the file is what was answered."""

from __future__ import annotations

from pathlib import Path

import yaml

from unit.cli.screens import answered


def init(path: Path, *answers: str) -> str:
    code = f"from finetune_cli.__main__ import run; run(['init', {str(path)!r}])"
    return answered(code, answers)


def test_the_file_is_what_was_answered(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    shown = init(
        path,
        *("google/gemma-2-2b-it", "nvidia/AceReason-Math", "questionAnswer"),
        *("problem", "", "qlora", "3", "acme/tuned"),
    )
    assert "Column with the question [question]: " in shown
    assert "run.yaml is written. Next:" in shown
    spec = yaml.safe_load(path.read_text())["spec"]
    assert spec["model"] == {"source": "hf://google/gemma-2-2b-it"}
    columns = {"question": "problem", "answer": "answer"}
    assert spec["dataset"]["format"] == {"questionAnswer": columns}
    assert spec["method"]["lora"]["quantization"] == "NF4"
    assert spec["resources"] == {"gpusPerNode": 3}
    assert spec["upload"]["repository"] == "acme/tuned"


def test_a_wrong_answer_is_asked_for_again_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    shown = init(
        path,
        *("google gemma", "google/gemma-2-2b-it", "configmap://rows/a.jsonl", "messages", "lora"),
        *("0", "acme", "acme/tuned"),
    )
    assert "Error: spec.model.source must be hf://OWNER/NAME" in shown
    assert "Error: spec.upload.repository must be" in shown
    assert yaml.safe_load(path.read_text())["spec"]["upload"]["repository"] == "acme/tuned"


def test_of_nothing_to_publish_there_is_nothing_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    init(path, "acme/base", "acme/data", "", "", "", "")
    assert "upload" not in yaml.safe_load(path.read_text())["spec"]

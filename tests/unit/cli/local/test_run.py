"""The command itself, on a stand-in for the trainer: what it prints, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from finetune_cli.errors import Exit
from finetune_operator.core import attempts
from unit.cli.calls import Ended, cli
from unit.cli.local.stand_in import Bench

ROWS = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rows"}}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(attempts, "FIRST_PAUSE", 0.0)
    return Bench(tmp_path, monkeypatch)


def run(
    bench: Bench, script: dict[str, list[str]], *options: str, token: str = "hf_secret"
) -> Ended:
    (bench.trainer / "script.json").write_text(json.dumps(script))
    file = bench.trainer.parent / "run.yaml"
    rows = {**ROWS, "data": {"rows.jsonl": "{}"}}
    file.write_text(yaml.safe_dump_all([bench.document, rows]))
    environment = {"PYTHONPATH": str(bench.trainer.parent), "HF_TOKEN": token}
    return cli("run", str(file), "--workspace", str(bench.place.root), *options, **environment)


def test_a_run_is_told_line_by_line(bench: Bench) -> None:
    ended = run(bench, {})
    assert (ended.returncode, ended.stderr) == (Exit.OK, "")
    assert ended.stdout.splitlines() == [
        "demo: Preparing  prepare runs.",
        "demo: Training  train runs.",
        "demo: Merging  merge runs.",
        "demo: Uploading  upload runs.",
        "demo: Succeeded  upload is done.",
    ]
    again = run(bench, {})
    assert again.stdout == "This run has ended already: --start-over does it again.\n"


def test_a_failure_is_one_sentence_after_where_to_look(bench: Bench) -> None:
    ended = run(bench, {"prepare-1": ["say There is no column q.", "exit 10"]})
    assert ended.returncode == Exit.BAD
    assert ended.stderr == (
        "error: There is no column q. Correct it, then run the same command again.\n"
    )
    assert ended.stdout.splitlines() == [
        "demo: Preparing  prepare runs.",
        f"log  {bench.place.log('demo-prepare-1')}",
    ]


def test_interrupted_it_says_how_to_go_on(bench: Bench) -> None:
    ended = run(bench, {"train-1": ["ask", "wait", "exit 13"]})
    assert ended.returncode == Exit.INTERRUPTED
    assert ended.stderr == "error: Suspended in train: run the same command again to go on.\n"


def test_for_programs_it_prints_the_resource_and_nothing_else(bench: Bench) -> None:
    ended = run(bench, {}, "-o", "json")
    found = json.loads(ended.stdout)
    assert (found["kind"], found["status"]["phase"]) == ("FineTuneJob", "Succeeded")
    assert found == json.loads(bench.place.state.read_text())


def test_what_a_run_takes_is_known_without_its_gpus(bench: Bench) -> None:
    bench.document["spec"]["resources"] = {"nodes": 2, "gpusPerNode": 8}
    found = {"totalSteps": 200, "timeEstimate": "48 min on 16 NVIDIA H100"}
    found |= {"memoryEstimateBytes": 2**34}
    ended = run(bench, {"prepare-1": [f"find {json.dumps(found)}"]}, "--until", "prepare")
    assert (ended.returncode, bench.stages()) == (Exit.OK, ["prepare-1"])
    assert ended.stdout.splitlines() == [
        "demo: Preparing  prepare runs.",
        "It ends here, as asked for: the same command without --until goes on.",
        "200 steps of 8 sequences",
        "about 48 min on 16 NVIDIA H100, estimated by prepare",
        "16.0Gi in each training process, estimated by prepare",
    ]


def test_without_upload_no_token_is_asked_for(bench: Bench) -> None:
    del bench.document["spec"]["model"]["tokenSecretRef"]
    ended = run(bench, {}, "--until", "merge", "--gpus", "0", token="")
    assert (ended.returncode, bench.stages()) == (Exit.OK, ["prepare-1", "train-1", "merge-1"])

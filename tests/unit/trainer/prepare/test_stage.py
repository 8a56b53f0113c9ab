"""The stage from end to end, from folders that stand for mounted claims."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune_trainer.data.examples import Examples
from finetune_trainer.outcome import UserError, run_stage
from finetune_trainer.prepare import stage
from finetune_trainer.prepare.pipeline import TASK_ROWS
from finetune_trainer.run import Run
from finetune_trainer.workspace import Workspace
from unit.trainer.prepare.plans import plan, questions, write_rows
from unit.trainer.tiny import CHATML, VOCABULARY, write_tiny_model

pytestmark = pytest.mark.usefixtures("sources")


def refused(run: Run, workspace: Workspace) -> str:
    with pytest.raises(UserError) as caught:
        stage(run, workspace)
    return str(caught.value)


def read(examples: Examples) -> list[tuple[str, str]]:
    """Each example as text: all of it, and what is supervised."""

    def text(tokens: Any) -> str:
        return "".join(VOCABULARY[token] for token in tokens)

    return [
        (text(example.tokens), text(example.tokens[example.supervised]))
        for example in (examples[index] for index in range(len(examples)))
    ]


def test_answers_with_their_stop_token_are_supervised_and_nothing_else(
    workspace: Workspace,
) -> None:
    stage(plan(), workspace)
    text, supervised = read(Examples(workspace.data / "train"))[6]
    assert text == (
        "<|im_start|>user\nWhat is 6 plus 1?<|im_end|>\n<|im_start|>assistant\n7<|im_end|>\n"
    )
    assert supervised == "7<|im_end|>"


def test_the_result_has_the_contracts_keys(workspace: Workspace) -> None:
    message, result = stage(plan(), workspace)
    assert message.startswith("Prepared 40 of 40 rows: ")
    assert result["rows"] == result["rowsKept"] == 40
    assert result["rowsDropped"] == 0
    assert result["trainableParameters"] == 16384 // 4
    model = AutoModelForCausalLM.from_pretrained(workspace.model)
    assert result["parameters"] == sum(weight.numel() for weight in model.parameters())
    assert result["totalSteps"] == -(-result["trainSequences"] // 2)
    assert all(isinstance(value, (str, int, float)) for value in result.values())
    assert "precision" not in result


def test_full_fine_tuning_trains_every_parameter(workspace: Workspace) -> None:
    _, result = stage(plan(method={"full": {}, "lora": None}), workspace)
    assert result["trainableParameters"] == result["parameters"]


def test_the_model_is_whole_in_the_workspace(workspace: Workspace, sources: Path) -> None:
    stage(plan(), workspace)
    original = load_file(sources / "model" / "tiny" / "model.safetensors")
    assert load_file(workspace.model / "model.safetensors").keys() == original.keys()
    assert AutoTokenizer.from_pretrained(workspace.model).chat_template


def test_the_report_and_the_preview_are_written(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    stage(plan(), workspace)
    report = json.loads((workspace.prepare / "report.json").read_text())
    assert report["tokenLengthPercentiles"]["100"] == max(
        Examples(workspace.data / "train").lengths
    )
    assert 0 < report["supervisedShare"] < 1
    assert 0.5 < report["packingEfficiency"] <= 1
    preview = (workspace.prepare / "preview.txt").read_text()
    assert preview.count("⟦") == preview.count("⟧") == 3
    lengths, fill = (report[f"{name}Histogram"] for name in ("tokenLength", "sequenceFill"))
    assert sum(lengths["counts"]) == report["trainExamples"]
    assert sum(fill["counts"]) == report["trainSequences"]
    assert lengths["edges"][-1] >= report["tokenLengthPercentiles"]["100"]
    (first, *_) = json.loads((workspace.prepare / "preview.json").read_text())["examples"]
    (passage,) = first["passages"]
    assert [piece["supervised"] for piece in passage["pieces"]].count(True) == 1
    assert f"⟦{next(p['text'] for p in passage['pieces'] if p['supervised'])}⟧" in preview
    log = capsys.readouterr().out
    assert "rows          40, of these 40 kept" in log
    assert "  an example  5 % ≤ 39, median 41, 95 % ≤ 41, max 41" in log
    assert re.search(
        r"^time          about \d.* on \d+ CPUs? like prepare's \(estimate\)$", log, re.M
    )
    assert "\x1b[32m" in log


def test_meta_says_what_the_data_belongs_to(workspace: Workspace) -> None:
    stage(plan(), workspace)
    assert json.loads((workspace.data / "meta.json").read_text())["planHash"] == "1111"


def without_a_tensor(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})


def with_another_shape(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"][:7].clone()
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})


def cut_off(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def of_another_kind(model: Path) -> None:
    (model / "model.safetensors").write_text("<html>404 Not Found</html>")


def with_an_index_that_promises_more(model: Path) -> None:
    names = dict.fromkeys([*load_file(model / "model.safetensors"), "more"], "model.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without_a_tensor, "its weights lack model.layers.1.mlp.up_proj.weight"),
        (with_another_shape, "hold model.norm.weight as [7] where config.json asks for [32]"),
        (cut_off, "model.safetensors is damaged: it has "),
        (of_another_kind, "model.safetensors is damaged: it has no header"),
        (with_an_index_that_promises_more, "names more, which model.safetensors does not hold"),
    ],
)
def test_broken_weights_are_refused_before_they_cost_an_accelerator(
    workspace: Workspace, sources: Path, damage: Callable[[Path], None], words: str
) -> None:
    damage(write_tiny_model(sources / "model" / "broken"))
    sentence = refused(plan(model={"source": "pvc://models/broken"}), workspace)
    assert words in sentence
    assert "set spec.model.source" in sentence


def test_tied_weights_that_the_files_leave_out_are_not_missing(
    workspace: Workspace, sources: Path
) -> None:
    write_tiny_model(sources / "model" / "tied", tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(sources / "model" / "tied" / "model.safetensors")
    stage(plan(model={"source": "pvc://models/tied"}), workspace)


def test_wrong_data_is_told_before_the_weights_are_fetched(workspace: Workspace) -> None:
    refused(plan(dataset={"split": "trian"}), workspace)
    assert (workspace.model / "tokenizer.json").exists()
    assert not list(workspace.model.glob("*.safetensors"))


def test_nothing_temporary_is_left(workspace: Workspace) -> None:
    stage(plan(), workspace)
    assert not list(workspace.root.rglob("*.tmp"))


def test_a_second_pod_of_the_same_plan_succeeds_at_once(
    workspace: Workspace, sources: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FINETUNE_TERMINATION_LOG", str(tmp_path / "log"))
    assert run_stage("prepare", lambda: stage(plan(), workspace), workspace) == 0
    first = json.loads(workspace.result("prepare").read_text())
    shutil.rmtree(sources)
    assert stage(plan(), workspace) == (first["message"], first["result"])


def test_another_plan_removes_what_the_last_one_left_but_keeps_the_model(
    workspace: Workspace,
) -> None:
    stage(plan(), workspace)
    weights = workspace.model / "model.safetensors"
    before = weights.stat().st_mtime_ns
    (workspace.checkpoints / "step-5").mkdir(parents=True)
    (workspace.adapter).mkdir()
    told = [workspace.history, workspace.report, workspace.stages]
    workspace.logs.mkdir()
    for file in told:
        file.write_text("{}\n")
    stage(plan(planHash="2222", dataset={"split": "train[:10]"}), workspace)
    assert workspace.plan_hash.read_text().strip() == "2222"
    assert len(Examples(workspace.data / "train")) == 10
    assert not workspace.checkpoints.exists()
    assert not workspace.adapter.exists()
    assert not [file for file in told if file.exists()]
    assert weights.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["data/", "model/", "results/", "history.jsonl", "report.html"])
def test_what_no_run_has_made_is_not_touched(workspace: Workspace, name: str) -> None:
    theirs = workspace.root / (f"{name}mine" if name.endswith("/") else name)
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.write_text("mine")
    said = refused(plan(), workspace)
    assert said.startswith(f"The claim in spec.storage.claimName holds {name} that no run made")
    assert said.endswith(f"use an empty claim, or move {name} elsewhere.")
    assert theirs.read_text() == "mine"
    assert not workspace.plan_hash.exists()


def test_once_it_is_moved_away_the_claim_serves(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FINETUNE_TERMINATION_LOG", str(tmp_path / "log"))
    workspace.data.mkdir(parents=True)
    assert run_stage("prepare", lambda: stage(plan(), workspace), workspace) == 10
    workspace.data.rename(tmp_path / "elsewhere")
    assert run_stage("prepare", lambda: stage(plan(), workspace), workspace) == 0


def test_other_files_beside_the_workspaces_own_do_not_matter(workspace: Workspace) -> None:
    (workspace.root / "lost+found").mkdir(parents=True)
    stage(plan(), workspace)
    assert (workspace.root / "lost+found").exists()


def test_clearing_that_was_cut_off_is_taken_up_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(plan(), workspace)
    workspace.adapter.mkdir()

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            stage(plan(planHash="2222"), workspace)
    assert workspace.plan_hash.read_text().strip() not in ("1111", "2222")
    stage(plan(planHash="2222"), workspace)
    assert workspace.plan_hash.read_text().strip() == "2222"
    assert not workspace.adapter.exists()


@pytest.mark.parametrize(
    "damage",
    [lambda file: file[:1000], lambda file: file[:8] + b"z" + file[9:]],
    ids=["cut off", "a turned bit"],
)
def test_a_damaged_model_is_repaired(
    workspace: Workspace, damage: Callable[[bytes], bytes]
) -> None:
    stage(plan(), workspace)
    weights = workspace.model / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(damage(whole))
    stage(plan(planHash="2222"), workspace)
    assert weights.read_bytes() == whole


def test_a_chat_template_of_the_spec_replaces_the_models_for_one_plan(
    workspace: Workspace,
) -> None:
    own = (
        "{% for m in messages %}{% if m.role == 'user' %}Q {{ m.content }} A "
        "{% else %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    )
    stage(plan(model={"chatTemplate": own}), workspace)
    assert read(Examples(workspace.data / "train"))[0][0] == "Q What is 0 plus 1? A 1<|im_end|>"
    assert AutoTokenizer.from_pretrained(workspace.model).chat_template == own
    stage(plan(planHash="2222"), workspace)
    assert read(Examples(workspace.data / "train"))[0][0].startswith("<|im_start|>user")


def test_a_template_as_long_as_the_models_own_is_replaced_too(workspace: Workspace) -> None:
    own = CHATML.replace("assistant", "ASSISTANT")
    stage(plan(model={"chatTemplate": own}), workspace)
    stage(plan(planHash="2222"), workspace)
    assert AutoTokenizer.from_pretrained(workspace.model).chat_template == CHATML


def test_a_fraction_is_held_out_for_validation(workspace: Workspace) -> None:
    _, result = stage(plan(dataset={"validation": {"fraction": "0.1"}}), workspace)
    train = {text for text, _ in read(Examples(workspace.data / "train"))}
    validation = {text for text, _ in read(Examples(workspace.data / "validation"))}
    assert (len(train), len(validation)) == (36, 4)
    assert not train & validation
    assert result["validationSequences"] >= 1


def test_a_split_of_its_own_is_used_for_validation(workspace: Workspace, sources: Path) -> None:
    write_rows(sources / "dataset" / "two" / "train.jsonl", questions(12))
    write_rows(sources / "dataset" / "two" / "test.jsonl", questions(5))
    run = plan(dataset={"source": "pvc://data/two", "validation": {"split": "test[:3]"}})
    stage(run, workspace)
    assert len(Examples(workspace.data / "train")) == 12
    assert len(Examples(workspace.data / "validation")) == 3


@pytest.mark.parametrize(
    ("split", "validation", "shared"),
    [("train", "train", 40), ("train[:30]", "train[75%:]", 0), ("train[:32]", "train[75%:]", 2)],
)
def test_no_row_is_both_trained_and_validated_on(
    workspace: Workspace, split: str, validation: str, shared: int
) -> None:
    run = plan(dataset={"split": split, "validation": {"split": validation}})
    if not shared:
        stage(run, workspace)
        return
    sentence = refused(run, workspace)
    assert f'spec.dataset.validation.split "{validation}" has {shared} rows of' in sentence


def test_without_validation_there_is_none(workspace: Workspace) -> None:
    stage(plan(), workspace)
    assert not (workspace.data / "validation").exists()


def test_rows_that_cannot_be_used_are_counted_by_reason(
    workspace: Workspace, sources: Path
) -> None:
    rows = [
        *questions(8),
        {"question": "?", "answer": ""},
        {"question": "long", "answer": "x" * 199},
    ]
    write_rows(sources / "dataset" / "rows.jsonl", rows)
    message, result = stage(plan(), workspace)
    report = json.loads((workspace.prepare / "report.json").read_text())
    assert report["droppedByReason"] == {
        'column "answer" is empty': 1,
        "longer than spec.training.sequenceLength": 1,
    }
    assert result["rowsDropped"] == 2
    assert '(2 dropped, mostly: column "answer" is empty): ' in message


def test_the_number_of_cpus_changes_nothing_in_the_data(
    workspace: Workspace, sources: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = questions(3 * TASK_ROWS)
    rows[TASK_ROWS]["answer"] = ""
    write_rows(sources / "dataset" / "rows.jsonl", rows)
    found = []
    for cpus in ("1", "3"):
        monkeypatch.setenv("FINETUNE_CPUS", cpus)
        place = Workspace(tmp_path / cpus)
        _, result = stage(plan(dataset={"validation": {"fraction": "0.1"}}), place)
        assert f"on {cpus} CPU" in result.pop("timeEstimate")
        files = sorted(place.data.rglob("*.npy"))
        found.append((result, [path.read_bytes() for path in files]))
    assert found[0] == found[1]
    assert found[0][0]["rowsDropped"] == 1
    assert len(found[0][1]) == 6


def test_text_is_split_where_it_is_too_long(workspace: Workspace, sources: Path) -> None:
    write_rows(sources / "dataset" / "rows.jsonl", [{"text": "a" * 300}])
    stage(plan(dataset={"format": {"text": {}}}), workspace)
    examples = Examples(workspace.data / "train")
    assert examples.lengths.tolist() == [128, 128, 45]
    assert examples[2].tokens[-1] == VOCABULARY.index("<|im_end|>")
    assert [int(np.sum(~examples[index].supervised)) for index in range(3)] == [1, 1, 1]
    assert json.loads((workspace.prepare / "report.json").read_text())["rowsSplit"] == 1


def test_a_completion_is_supervised_and_ends(workspace: Workspace, sources: Path) -> None:
    write_rows(sources / "dataset" / "rows.jsonl", [{"prompt": "1 + 1 =", "completion": " 2"}])
    stage(plan(dataset={"format": {"promptCompletion": {}}}), workspace)
    assert read(Examples(workspace.data / "train")) == [("1 + 1 = 2<|im_end|>", " 2<|im_end|>")]


def test_sequences_longer_than_the_models_positions_are_refused(workspace: Workspace) -> None:
    assert refused(plan(training={"sequenceLength": 1024}), workspace) == (
        "spec.training.sequenceLength is 1024, but the model has positions for 512 tokens: set it "
        "to 512 or less."
    )


def test_an_unknown_target_module_is_refused(workspace: Workspace) -> None:
    run = plan(method={"lora": {"targetModules": ["q_porj"]}})
    assert 'names "q_porj"' in refused(run, workspace)


def test_a_failure_leaves_no_data_behind(workspace: Workspace) -> None:
    refused(plan(training={"sequenceLength": 16}), workspace)
    assert not workspace.data.exists()

"""Labels on a tiny model: learned, and computed as transformers does by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import AutoPeftModelForSequenceClassification, AutoPeftModelForTokenClassification
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertModel,
)

from finetune_trainer import merge
from finetune_trainer.data.examples import Examples
from finetune_trainer.run import Run
from finetune_trainer.train.objectives.classification import Classification
from finetune_trainer.train.objectives.entities import entities
from finetune_trainer.train.recipe import train
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace
from unit.trainer.tiny import VOCABULARY, tiny_model
from unit.trainer.train.made import (
    LABELLED_MODEL,
    LABELS,
    labelled_documents,
    plan,
    prepared_workspace,
    tagged_documents,
)

FULL: dict[str, Any] = {"full": {}}
LORA: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8, "dropout": "0"}}
ADAPTER: dict[str, Any] = {"adapter": {"reductionFactor": 4}}
methods = pytest.mark.parametrize(
    "method", [LORA, ADAPTER, FULL], ids=["lora", "bottleneck", "full"]
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def labelled(root: Path, documents: Any, **settings: Any) -> Workspace:
    return prepared_workspace(
        root, train=40, validation=12, examples=documents, **LABELLED_MODEL, **settings
    )


def labelled_plan(task: str, method: dict[str, Any], **training: Any) -> Run:
    settings = {"epochs": 6, "packing": False, "learningRate": "1e-2", **training}
    return plan(method, task=task, **settings)


def of_the_artefact(workspace: Workspace, auto: Any, auto_peft: Any) -> Any:
    if workspace.merged.exists():
        return auto.from_pretrained(workspace.merged).eval()
    config = workspace.adapter / "adapter_config.json"
    name = '"HuggingFaceTB/SmolLM2-135M-Instruct"'
    config.write_text(config.read_text().replace(name, f'"{workspace.model}"'))
    return auto_peft.from_pretrained(workspace.adapter, num_labels=len(LABELS)).eval()


@methods
def test_classes_are_learned_and_measured_as_stock_transformers_does(
    method: dict[str, Any], tmp_path: Path
) -> None:
    workspace = labelled(tmp_path, labelled_documents)
    _, result = train(labelled_plan("Classification", method), workspace, Stop())
    assert result["validationAccuracy"] > 0.9
    model = of_the_artefact(
        workspace, AutoModelForSequenceClassification, AutoPeftModelForSequenceClassification
    )
    losses, right = [], 0
    validation = Examples(workspace.data / "validation")
    for index in range(len(validation)):
        tokens = torch.from_numpy(validation[index].tokens.astype("int64"))[None]
        label = torch.from_numpy(validation[index].labels.astype("int64"))
        with torch.no_grad():
            output = model(input_ids=tokens, labels=label)
        losses.append(float(output.loss))
        right += int(output.logits.argmax(-1) == label)
    assert np.mean(losses) == pytest.approx(result["validationLoss"], abs=1e-4)
    assert right / len(validation) == pytest.approx(result["validationAccuracy"])


@methods
def test_tags_are_learned_and_measured_as_stock_transformers_does(
    method: dict[str, Any], tmp_path: Path
) -> None:
    workspace = labelled(tmp_path, tagged_documents)
    _, result = train(labelled_plan("TokenClassification", method), workspace, Stop())
    assert result["validationAccuracy"] > result["baseValidationAccuracy"] + 0.2
    assert result["validationF1"] > result["baseValidationF1"] + 0.1
    model = of_the_artefact(
        workspace, AutoModelForTokenClassification, AutoPeftModelForTokenClassification
    )
    total = count = found = given = actual = 0.0
    validation = Examples(workspace.data / "validation")
    for index in range(len(validation)):
        example = validation[index]
        labels = np.full(len(example.tokens), -100)
        labels[example.supervised] = example.labels
        with torch.no_grad():
            output = model(
                input_ids=torch.from_numpy(example.tokens.astype("int64"))[None],
                labels=torch.from_numpy(labels)[None],
            )
        total += float(output.loss) * len(example.labels)
        count += len(example.labels)
        said = output.logits[0].argmax(-1).numpy()[example.supervised]
        right = entities([LABELS[label] for label in example.labels])
        ours = entities([LABELS[label] for label in said])
        found, given, actual = found + len(right & ours), given + len(ours), actual + len(right)
    assert total / count == pytest.approx(result["validationLoss"], abs=1e-4)
    assert result["validationPrecision"] == pytest.approx(found / given)
    assert result["validationRecall"] == pytest.approx(found / actual)


def test_macro_f1_is_the_mean_over_classes_that_occur() -> None:
    """By hand: class 0 has F1 2/3, class 1 has 1/2, class 2 occurs nowhere."""
    model = tiny_model(num_labels=3)
    objective = Classification(model, capacity=8, autocast=None, device=torch.device("cpu"))
    right, given, actual = [1.0, 1.0, 0.0], [1.0, 2.0, 0.0], [2.0, 2.0, 0.0]
    metrics = objective.metrics([*right, *given, *actual], 4)
    assert metrics == pytest.approx({"accuracy": 0.5, "macro_f1": (2 / 3 + 1 / 2) / 2})


@pytest.mark.parametrize(
    ("task", "documents", "auto"),
    [
        ("Classification", labelled_documents, AutoModelForSequenceClassification),
        ("TokenClassification", tagged_documents, AutoModelForTokenClassification),
    ],
)
def test_the_merged_model_has_the_head_that_was_trained(
    task: str, documents: Any, auto: Any, tmp_path: Path
) -> None:
    workspace = labelled(tmp_path, documents, tie_word_embeddings=False)
    run = labelled_plan(task, LORA, epochs=1)
    train(run, workspace, Stop())
    _, result = merge.stage(run, workspace)
    assert result["relativeLogitDifference"] < 1e-3
    model, info = auto.from_pretrained(workspace.merged, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]  # the head that wrote text is gone
    assert model.config.id2label == dict(enumerate(LABELS))


@methods
def test_an_encoder_learns_classes_too(method: dict[str, Any], tmp_path: Path) -> None:
    workspace = labelled(tmp_path, labelled_documents)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        initializer_range=0.2,
        pad_token_id=3,
        **LABELLED_MODEL,
    )
    BertModel(config).save_pretrained(workspace.model)
    run = labelled_plan("Classification", method)
    _, result = train(run, workspace, Stop())
    assert result["validationAccuracy"] > 0.8
    if method is ADAPTER:
        return  # it is not merged
    if method is LORA:
        merge.stage(run, workspace)
    model, info = AutoModelForSequenceClassification.from_pretrained(
        workspace.merged, output_loading_info=True
    )
    assert type(model).__name__ == "BertForSequenceClassification"
    assert not info["missing_keys"]

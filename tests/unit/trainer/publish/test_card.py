from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from finetune_trainer.prepare.source import LICENSE_KEYS
from finetune_trainer.publish.card import Facts, model_card
from finetune_trainer.publish.markdown import code, code_block, plain, table
from finetune_trainer.run import Run
from unit.trainer.artifacts import tiny_run

REPORT = {
    "modelCommit": "a" * 40,
    "modelLicense": {"license": "other", "license_name": "gemma", "license_link": "LICENSE"},
    "datasetCommit": "b" * 40,
    "rows": 2000,
    "rowsKept": 1990,
    "tokens": 100_000,
    "supervisedTokens": 48_000,
    "parameters": 134_515_008,
    "trainableParameters": 4_884_480,
    "trainSequences": 99,
    "validationSequences": 5,
    "droppedByReason": {"the answer is empty": 10},
    "tokenLengthPercentiles": {"50": 41, "95": 88, "100": 1020},
}
TRAIN = {
    "steps": 13,
    "loss": "2.1",
    "baseValidationLoss": 3.25,
    "validationLoss": "2.5",
    "tokensPerSecond": 612.4,
    "precision": "bfloat16",
}


def facts(**changes: Any) -> Facts:
    usual = Facts(
        run=tiny_run(),
        repository="acme/smollm2-glosses",
        revision="main",
        report=REPORT,
        train=TRAIN,
        merge={"relativeLogitDifference": 0.012},
        versions={"torch": "2.15.0"},
        has_model=True,
        adapter_folder="adapter",
        chats=True,
    )
    return replace(usual, **changes)


def metadata(card: str) -> dict[str, Any]:
    """The card's header as the Hub's client reads it."""
    return dict(yaml.safe_load(str(ModelCard(card).data)))


def rendered(text: str) -> str:
    """The card's body as HTML, with raw HTML let through as a careless site would."""
    body = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    return str(MarkdownIt("commonmark", {"html": True}).enable("table").render(body))


def test_the_hub_reads_base_model_data_and_results_from_the_header() -> None:
    data = metadata(model_card(facts()))
    assert data["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert data["base_model_relation"] == "finetune"
    assert data["datasets"] == ["wordnet/glosses"]
    assert data["library_name"] == "transformers"
    assert data["pipeline_tag"] == "text-generation"
    assert {"finetune-operator", "lora"} <= set(data["tags"])
    (result,) = data["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == 2.5


def test_the_base_models_license_is_passed_on() -> None:
    data = metadata(model_card(facts()))
    assert [data[key] for key in LICENSE_KEYS] == ["other", "gemma", "LICENSE"]
    assert "license" not in metadata(model_card(facts(report={})))


def test_base_and_tuned_loss_stand_side_by_side() -> None:
    card = model_card(facts())
    assert "| Base model | 3.2500 | 25.79 |" in card
    assert "| This model | **2.5000** | **12.18** |" in card


def test_a_reader_finds_settings_data_and_the_plan() -> None:
    card = model_card(facts())
    for said in (
        "| Rank, alpha, dropout | 16, 32, 0 |",
        "| Trained parameters | 4,884,480 of 134,515,008 (3.63%) |",
        "| Learning rate | 0.0002, cosine, 3% warm-up |",
        "| Precision | bfloat16 |",
        "| Rows used | 1,990 of 2,000 (99.50%) |",
        "| Supervised tokens | 48,000 of 100,000 (48.00%) |",
        "* 10: the answer is empty",
        "`0f4c2b6a9d31`",
        "| torch | `2.15.0` |",
    ):
        assert said in card


def test_every_data_set_of_a_mixture_is_named_with_its_rows() -> None:
    single = facts()
    part = single.run.data["dataset"].model_dump(by_alias=True, mode="json", exclude_none=True)
    parts = [
        {**part, "weight": "3"},
        {"source": "configmap://words/b.jsonl", "format": {"text": {}}, "weight": "1"},
    ]
    document = single.run.model_dump(by_alias=True, mode="json", exclude={"dataset"})
    told = [{"commit": "c" * 40, "rowsKept": 1500}, {"rowsKept": 490}]
    card = model_card(
        facts(
            run=Run.model_validate({**document, "datasets": parts}),
            report={**single.report, "dataSets": told},
        )
    )
    assert metadata(card)["datasets"] == ["wordnet/glosses"]
    assert f"[wordnet/glosses](/datasets/wordnet/glosses) at `{'c' * 12}`" in card
    assert "| Source | `configmap://words/b.jsonl` |" in card
    assert "| Training rows | 1,500, weight 3 |" in card
    assert "| Training rows | 490, weight 1 |" in card


def test_an_adapter_alone_is_a_peft_repository() -> None:
    card = model_card(facts(has_model=False, adapter_folder="", merge={}))
    data = metadata(card)
    assert data["library_name"] == "peft"
    assert data["base_model_relation"] == "adapter"
    assert 'AutoPeftModelForCausalLM.from_pretrained("acme/smollm2-glosses")' in card
    assert "AutoModelForCausalLM.from_pretrained" not in card.replace("AutoPeftModel", "")
    assert "merged" not in card


def test_bottleneck_adapters_are_told_with_the_code_that_loads_them() -> None:
    run = tiny_run(method={"adapter": {"targetModules": ["self_attn"], "nonLinearity": "SiLU"}})
    card = model_card(facts(run=run, has_model=False, adapter_folder="", merge={}))
    assert "bottleneck-adapter" in metadata(card)["tags"]
    assert "trained with bottleneck adapters on" in card
    assert "| Reduction factor | 16 |" in card
    assert "| Non-linearity | SiLU |" in card
    assert "| Adapted blocks | `self_attn` |" in card
    quantized = tiny_run(method={"adapter": {"quantization": "NF4"}})
    assert "trained with bottleneck adapters over an NF4 base on" in model_card(
        facts(run=quantized)
    )
    load = 'get_class_from_dynamic_module("bottleneck_tuner.BottleneckConfig", "acme/'
    assert card.index(load) < card.index("AutoPeftModelForCausalLM.from_pretrained(")


def test_a_full_model_mentions_no_adapter() -> None:
    card = model_card(facts(run=tiny_run(method={"full": {}}), adapter_folder=None, merge={}))
    assert "full fine-tuning" in card
    assert "peft" not in card
    assert "Rank" not in card


def test_every_python_block_is_python() -> None:
    for kind in (
        {},
        {"has_model": False, "adapter_folder": ""},
        {"chats": False, "revision": "a-branch"},
    ):
        blocks = re.findall(r"```python\n(.*?)```", model_card(facts(**kind)), flags=re.DOTALL)
        assert blocks
        for block in blocks:
            compile(block, "card", "exec")


def test_sources_that_are_not_on_the_hub_are_named_but_not_linked() -> None:
    run = tiny_run(
        model={"source": "pvc://models/llama"},
        dataset={"source": "configmap://rows/train.jsonl", "format": {"text": {}}},
    )
    card = model_card(facts(run=run))
    data = metadata(card)
    assert "base_model" not in data
    assert "base_model_relation" not in data
    assert "datasets" not in data
    assert "`pvc://models/llama`" in card


def test_the_loss_is_shown_as_a_picture_where_there_is_one() -> None:
    card = model_card(facts(told=frozenset({"loss.png", "report.html"})))
    assert "](finetune/loss.png)" in card
    assert "](finetune/report.html)" in card
    assert '<img src="finetune/loss.png"' in rendered(card)
    without = model_card(facts())
    assert "loss.png" not in without
    assert "report.html" not in without


def test_without_results_there_is_a_card_all_the_same() -> None:
    card = model_card(facts(report={}, train={}, merge={}))
    assert "there is no validation loss" in card
    assert "model-index" not in card


@pytest.mark.parametrize("loss", ["nan", "inf", None, "much"])
def test_a_loss_that_is_no_number_is_left_out(loss: Any) -> None:
    card = model_card(facts(train={"validationLoss": loss}))
    assert "there is no validation loss" in card


HOSTILE = [
    "<script>alert(1)</script>",
    "a\n---\nlicense: mit",
    "| x | y\n# heading",
    "`` ` `` <img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "x``` \n```\n<b>",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_user_writes_stays_text(text: str) -> None:
    run = tiny_run(
        model={"source": f"hf://{text}"},
        dataset={"source": text, "split": text, "subset": text, "format": {"text": {}}},
        method={"lora": {"targetModules": [text]}},
        planHash=text,
    )
    report = REPORT | {"droppedByReason": {text: 3}, "modelLicense": {}}
    card = model_card(facts(run=run, report=report, train=TRAIN | {"precision": text}))
    page = rendered(card)
    assert "license" not in metadata(card)
    for tag in ("<script", "<img", "<b>", 'href="javascript'):
        assert tag not in page
    assert page.count("<h1>") == 1
    assert page.count("<table>") == rendered(model_card(facts())).count("<table>")


@pytest.mark.parametrize("text", [*HOSTILE, "plain", "a_b*c", "~x~", "trailing `"])
def test_escaped_text_reads_as_it_was_written(text: str) -> None:
    line = " ".join(text.split())
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    for page in (
        parser.render(plain(text)),
        parser.render(table(("a",), [(plain(text),)])),
        parser.render(table(("a",), [(code(text),)])),
    ):
        shown = re.sub(r"</?(p|table|thead|tbody|tr|th|td|code)>", "", page)
        shown = shown.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"')
        assert line in shown.replace("&amp;", "&")


def test_a_code_block_cannot_be_closed_from_within() -> None:
    block = code_block("", "one\n```\ntwo")
    assert rendered(block).count("<pre>") == 1


def test_preferences_are_told_with_their_rewards_and_without_a_perplexity() -> None:
    run = tiny_run(task="Preference")
    preference = {"loss": "SimPO", "beta": "2", "gamma": "0.5"}
    document = run.model_dump(by_alias=True, mode="json")
    document["training"]["preference"] = preference
    train = {**TRAIN, "validationRewardAccuracy": 0.75, "validationRewardMargin": 1.5}
    card = model_card(facts(run=Run.model_validate(document), train=train))
    assert "| | Validation loss | Reward accuracy | Reward margin |" in card.replace("|  |", "| |")
    assert "| This model | **2.5000** | **0.7500** | **1.5000** |" in card
    assert "Perplexity" not in card
    assert "Mean over the pairs of" in card
    assert "| Loss on | the answers, SimPO with beta 2, gamma 0.5 |" in card
    assert "simpo" in metadata(card)["tags"]


def test_kto_is_told_with_its_weights_and_the_rewards_of_both_kinds() -> None:
    document = tiny_run(task="Preference").model_dump(by_alias=True, mode="json")
    document["training"]["preference"] = {"loss": "KTO", "beta": "0.1", "desirableWeight": "1.3"}
    values = {"RewardChosen": 0.5, "RewardRejected": -0.25, "RewardMargin": 0.75, "Kl": 0.125}
    train = {**TRAIN, **{f"validation{name}": value for name, value in values.items()}}
    card = model_card(facts(run=Run.model_validate(document), train=train))
    assert "Reward of desirable answers | Reward of undesirable answers | Reward margin" in card
    assert "| **0.5000** | **-0.2500** | **0.7500** | **0.1250** |" in card
    assert "Mean over the answers of" in card
    assert (
        "| Loss on | the answers, KTO with beta 0.1, desirable answers weighed 1.3, undesirable "
        "ones 1 |" in card
    )
    kinds = [each["type"] for each in metadata(card)["model-index"][0]["results"][0]["metrics"]]
    assert kinds == ["loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "kl"]
    assert "kto" in metadata(card)["tags"]


@pytest.mark.parametrize(
    ("task", "pipeline", "auto"),
    [
        ("Classification", "text-classification", "ForSequenceClassification"),
        ("TokenClassification", "token-classification", "ForTokenClassification"),
    ],
)
def test_labels_are_told_with_their_metrics_and_how_to_load_them(
    task: str, pipeline: str, auto: str
) -> None:
    train = {**TRAIN, "validationAccuracy": 0.9, "validationMacroF1": 0.8, "validationF1": 0.7}
    report = {**REPORT, "labels": ["ham", "spam"]}
    card = model_card(facts(run=tiny_run(task=task), train=train, report=report))
    data = metadata(card)
    assert data["pipeline_tag"] == pipeline
    kinds = [each["type"] for each in data["model-index"][0]["results"][0]["metrics"]]
    assert kinds[:2] == ["loss", "accuracy"]
    assert f"model = AutoModel{auto}.from_pretrained(" in card
    assert f"model = AutoPeftModel{auto}.from_pretrained(" in card
    assert "id2label={0: 'ham', 1: 'spam'}" in card
    assert "AutoModelForCausalLM" not in card
    assert "| Loss on | labels |" in card


def test_the_card_names_the_plan_and_where_it_is_another_the_one_that_it_was_trained_by() -> None:
    assert "Plan `0f4c2b6a9d31`. The whole plan is in" in model_card(facts())
    continues = {"plan": "2222", "stages": {"prepare": "1111", "train": "1111", "merge": "2222"}}
    card = model_card(facts(run=tiny_run(planHash="3333", continues=continues)))
    assert "Plan `3333`, trained by plan `1111`. The whole plan is in" in card

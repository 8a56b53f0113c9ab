from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from finetune_cli.published import BEGINNING
from finetune_trainer.report.facts import Curve, Facts, Failure
from finetune_trainer.report.page import report_page
from finetune_trainer.report.read import read_facts
from finetune_trainer.run import Run
from unit.trainer.artifacts import tiny_run
from unit.trainer.report.runs import HOSTILE, long_run, poisoned

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Elements(HTMLParser):
    """The page's elements as a browser would find them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.text = ""
        self.code: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self.text += " "
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open[-1:] == ["pre"]:
            self.code.append(data)


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    run, workspace = long_run(tmp_path_factory.mktemp("run"))
    return read_facts(run, workspace, public=False)


def test_a_reader_finds_what_ran_and_what_came_of_it(facts: Facts) -> None:
    text = " ".join(Elements(report_page(facts)).text.split())
    for said in (
        "smollm2-glosses",
        "LoRA of HuggingFaceTB/SmolLM2-135M-Instruct on wordnet/glosses",
        "Validation loss 3.254 1.512 \N{MINUS SIGN}1.742 (\N{MINUS SIGN}54%)",
        "Perplexity 25.89 4.536",
        "Rank, alpha, dropout 16, 32, 0",
        "4,000 of 4,020 (99.5%)",
        "14",
        "train, attempt 1 ended without a word",
        "train, attempt 2 stopped, its work kept",
        "Measured peak 31.4 GiB",
        'AutoModelForCausalLM.from_pretrained("merged", dtype="auto")',
        "a verse form consisting of 14 lines",
    ):
        assert said in text, said


def test_before_training_the_page_says_what_it_will_take(facts: Facts) -> None:
    found = {"totalSteps": 1200, "timeEstimate": "48 min on 3 NVIDIA H100"}
    found |= {"memoryEstimateBytes": 31 * 2**30}
    began = [each for each in facts.attempts if each.stage == "prepare"]
    early = replace(facts, train={}, curves={}, attempts=began, prepared=found)
    text = " ".join(Elements(report_page(early)).text.split())
    assert "Steps 1,200 planned Training time 48 min estimated, on 3 NVIDIA H100" in text
    assert "Memory 31.0 GiB estimated, of a training process" in text
    assert "planned" not in report_page(facts)


def test_what_is_trained_on_is_marked(facts: Facts) -> None:
    assert "<mark>a body of water cut off from a larger body by a reef" in report_page(facts)


def test_the_page_asks_for_nothing(facts: Facts) -> None:
    page = report_page(facts)
    elements = Elements(page)
    assert not {"script", "img", "iframe", "object", "embed"} & set(elements.tags)
    sources = [v for name, v in elements.attributes if name in ("src", "href", "xlink:href")]
    assert sources == ["data:,"]
    assert "url(" not in page
    assert "@import" not in page
    assert page.encode().startswith(BEGINNING), "kubectl finetune report fetches no other page"


def test_whatever_texts_are_they_stay_texts(facts: Facts) -> None:
    document = poisoned(facts.run.model_dump(mode="json", by_alias=True, exclude_none=True))
    usual = facts.run.model_dump(mode="json", by_alias=True, exclude_none=True)
    run = Run.model_validate(
        usual
        | {key: document[key] for key in ("name", "namespace", "planHash")}
        | {"model": document["model"]}
        | {"dataset": usual["dataset"] | {"source": HOSTILE, "split": HOSTILE, "subset": HOSTILE}}
        | {"method": {"lora": {"targetModules": [HOSTILE]}}}
    )
    harmed = replace(
        facts,
        run=run,
        prepared=poisoned(dict(facts.prepared)) | {"droppedByReason": {HOSTILE: 3}},
        failure=Failure(HOSTILE, HOSTILE, HOSTILE),
        attempts=[replace(each, stage=HOSTILE, outcome=HOSTILE) for each in facts.attempts],
        samples=[
            replace(each, prompt=HOSTILE, base=HOSTILE, tuned=HOSTILE, reference=HOSTILE)
            for each in facts.samples
        ],
        examples=[
            replace(
                each,
                passages=[
                    replace(
                        part,
                        title=HOSTILE,
                        pieces=[replace(piece, text=HOSTILE) for piece in part.pieces],
                    )
                    for part in each.passages
                ],
            )
            for each in facts.examples
        ],
        versions={HOSTILE: HOSTILE},
    )
    page = report_page(harmed)
    elements = Elements(page)
    assert elements.open == []
    assert not {"script", "img"} & set(elements.tags)
    assert elements.tags.count("svg") == Elements(report_page(facts)).tags.count("svg")
    assert not [name for name, _ in elements.attributes if name.startswith("on")]
    assert elements.text.count("<script>alert(1)</script>") > 20
    assert "{{ 7*7 }}" in elements.text  # no template either
    assert not re.search("[\x00-\x08\x1b\u202e\u2066]", page)
    page.encode()


def test_halves_of_characters_can_be_written(facts: Facts) -> None:
    page = report_page(replace(facts, failure=Failure("train", "UserError", "a \ud800 b")))
    page.encode("utf-8")


@pytest.mark.parametrize("steps", [1, 2, 3, 39, 40, 100_000])
def test_runs_of_any_length_make_pages_of_a_bounded_size(facts: Facts, steps: int) -> None:
    loss = Curve()
    for step in range(1, steps + 1):
        loss.add(step, 2.0 + (step == steps // 2) * 9)
    page = report_page(replace(facts, curves=dict.fromkeys(facts.curves, loss)))
    assert len(page) < 250_000
    assert Elements(page).open == []


def test_texts_without_an_end_make_pages_of_a_bounded_size(facts: Facts) -> None:
    sample = replace(facts.samples[0], prompt="x" * 10**6, tuned="y" * 10**6)
    page = report_page(
        replace(facts, samples=[sample] * 8, failure=Failure("train", "UserError", "z" * 10**6))
    )
    assert len(page) < 250_000
    assert "998,000 more characters" in page


def test_a_run_that_never_logged_has_no_charts_of_it(facts: Facts) -> None:
    page = report_page(replace(facts, curves={}, train={}, attempts=[], lengths=None, fill=None))
    assert "<svg" not in page
    assert "Training</h2>" not in page


@pytest.mark.parametrize("task", ["Classification", "TokenClassification", "Preference"])
def test_every_task_has_its_metrics(facts: Facts, task: str) -> None:
    train = {**facts.train, "validationAccuracy": 0.9, "validationRewardAccuracy": 0.75}
    page = report_page(replace(facts, run=tiny_run(task=task), train=train))
    assert "ccuracy</th>" in page
    assert "Perplexity" not in page


def test_the_hubs_repository_is_loaded_once_it_is_there(facts: Facts) -> None:
    upload = {"repository": "acme/x", "artifacts": ["Merged", "Adapter"]}
    run = tiny_run(upload=upload)
    before = report_page(replace(facts, run=run))
    after = report_page(replace(facts, run=run, upload={"repository": "acme/x"}))
    assert "from_pretrained(&#34;merged&#34;" in before
    assert "from_pretrained(&#34;acme/x&#34;" in after
    assert "The adapter alone" in after


def test_python_of_the_page_is_python(facts: Facts) -> None:
    for artifacts in (["Adapter"], ["Merged", "Adapter"]):
        run = tiny_run(upload={"repository": "acme/x", "artifacts": artifacts})
        page = report_page(replace(facts, run=run, upload={"repository": "acme/x"}))
        sources = Elements(page).code[1:]
        assert len(sources) == len(artifacts)
        for source in sources:
            compile(source, "report", "exec")


def test_the_plan_is_in_it_to_the_last_setting(facts: Facts) -> None:
    plan, *_ = Elements(report_page(facts)).code
    assert Run.model_validate_json(plan) == facts.run

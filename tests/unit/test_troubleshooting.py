"""docs/troubleshooting.md: every reason that the code can give, none that it cannot, and sentences
that it really says.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_operator.core import waiting
from finetune_operator.core.model import Waiting
from finetune_operator.runtime.waiting import BLOCKING
from finetune_operator.vocabulary import (
    CONDITION_OF_STAGE,
    EventReason,
    ExitCode,
    FailureReason,
    Phase,
    RefusalReason,
    StageState,
    WaitReason,
)

ROOT = Path(__file__).resolve().parents[2]
OPERATOR = ROOT / "operator" / "finetune_operator"
TRAINER = ROOT / "trainer-image" / "finetune_trainer"
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()

OURS = (FailureReason, RefusalReason, WaitReason, EventReason)
_WORD = r"([A-Z][A-Za-z]+)"
_FOREIGN = "## Kubernetes' own words"
HOLE = "…"
# Where the operator makes sentences for users.
TELLING = [
    *(f"core/{name}" for name in ("attempts", "checkpointing", "claim", "decide", "failure")),
    *(f"core/{name}" for name in ("limits", "pinned", "suspend", "waiting")),
    *(f"runtime/{name}" for name in ("actions", "ownership", "reconciler", "waiting")),
]


def described(text: str) -> list[str]:
    """The reasons that a text has a heading or a row for."""
    row = rf"^\| (?:<a id=\"[a-z]+\"></a>)?`{_WORD}` \|"
    return re.findall(rf"^### {_WORD}$", text, re.MULTILINE) + re.findall(row, text, re.MULTILINE)


def parts() -> tuple[str, str]:
    """What is about our own reasons, and what is about Kubernetes'."""
    before, _, rest = PAGE.partition(_FOREIGN)
    foreign, heading, after = rest.partition("\n## ")
    return before + heading + after, foreign


def messages() -> list[str]:
    """The sentences that the page quotes."""
    quoted = re.findall(r"^> (.+)$", PAGE, re.MULTILINE)
    tabled = re.findall(r"^\| `([^`]* [^`]*)` \|", PAGE, re.MULTILINE)
    assert len(quoted) > 30
    assert len(tabled) > 30
    return quoted + tabled


def texts(path: Path) -> Iterator[str]:
    """The texts in a file's code, without docstrings, with `…` for what is filled in."""
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree))
    told = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    told |= {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            yield "".join(_piece(value) for value in node.values)
        elif isinstance(node, ast.Constant) and id(node) not in told:
            yield str(node.value)


def _piece(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else HOLE


SAID = [
    text
    for folder in (OPERATOR, TRAINER)
    for path in folder.rglob("*.py")
    for text in texts(path)
    if " " in text
]


def pattern_of(message: str) -> re.Pattern[str]:
    """What a message says between its holes, in order."""
    pieces = [piece.strip() for piece in message.split(HOLE) if piece.strip(" .:;,()")]
    assert pieces, message
    return re.compile(".*".join(re.escape(piece) for piece in pieces), re.DOTALL)


def is_said(message: str) -> bool:
    """Whether some text of the code has all of the message."""
    return any(pattern_of(message).search(text) for text in SAID)


def is_a_sentence(text: str) -> bool:
    """Whether a text is one that a user may read as it is, and no piece of one or of a log."""
    words = re.findall(r"[a-z]{2,}", text)
    return (
        len(words) > 3
        and bool(re.match(rf"[A-Z{HOLE}]|spec\.|train ", text))
        and text.endswith((".", HOLE, "?"))
    )


def test_every_reason_of_ours_is_there_once_and_no_other() -> None:
    words = [str(word) for kind in OURS for word in kind]
    words += [*Phase, *StageState, *CONDITION_OF_STAGE.values()]
    found = described(parts()[0])
    assert sorted(found) == sorted(set(found))
    assert set(found) == set(words)


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_reason_of_ours_can_be_given(kind: type[FailureReason]) -> None:
    code = "".join(p.read_text() for p in OPERATOR.rglob("*.py") if p.name != "vocabulary.py")
    assert [word.name for word in kind if f"{kind.__name__}.{word.name}" not in code] == []


def test_no_situation_has_a_reason_that_is_in_no_vocabulary() -> None:
    """Refusals are typed; of situations only the reasons of pods come from elsewhere."""
    for path in OPERATOR.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Situation":
                assert not isinstance(node.args[1], ast.Constant | ast.JoinedStr), ast.unparse(node)


def test_what_the_kubelet_says_of_a_container_is_among_kubernetes_own_words() -> None:
    passed_on = {waiting.reason(Waiting(word, "")) for word in BLOCKING}
    ours = {str(FailureReason.IMAGE_PULL)}
    ends_the_run = {"InvalidImageName"}
    assert passed_on - ours - ends_the_run <= set(described(parts()[1]))


@pytest.mark.parametrize("message", messages())
def test_every_sentence_is_one_that_the_code_says(message: str) -> None:
    assert is_said(message)


def test_a_sentence_that_the_code_does_not_say_is_seen() -> None:
    assert is_said("… waits until Job … has stopped.")
    assert not is_said("… waits until Job … has ended.")


@pytest.mark.parametrize("module", TELLING)
def test_every_sentence_of_the_operator_is_there(module: str) -> None:
    patterns = [pattern_of(message) for message in messages()]
    sentences = [text for text in texts(OPERATOR / f"{module}.py") if is_a_sentence(text)]
    assert sentences
    assert [text for text in sentences if not any(p.search(text) for p in patterns)] == []


def test_every_exit_code_of_the_contract_is_there() -> None:
    codes = {value for name, value in vars(ExitCode).items() if name.isupper()}
    rows = re.findall(r"^\| (\d+) \| (?:\[(\w+)\])?", PAGE, re.MULTILINE)
    assert {int(code) for code, _ in rows} == codes
    assert {reason for _, reason in rows if reason} <= {str(word) for word in FailureReason}

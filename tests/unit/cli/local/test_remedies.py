"""No sentence of the trainer or of the core advises what a machine without a cluster does not have:
every text in their code is read, so a new one is seen here.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from finetune_cli.local.remedies import here
from finetune_cli.local.wording import localized
from finetune_operator.core.remedy import with_remedy
from unit.test_troubleshooting import OPERATOR, TRAINER, texts

# What a person at a workstation cannot do or look at.
FOREIGN = re.compile(
    r"\bpods?\b|kubectl|rerunToken|spec\.storage|spec\.scheduling|spec\.trainer\.image"
    r"|spec\.resources\.(?:memory|nodes|sharedMemory)|\bnamespace|device plugin|its node\b"
    r"|(?<!--)\bSecret\b|trainer image|workspace volume",
    re.IGNORECASE,
)
# Only in a log, and only where somebody pretends to have accelerators.
ELSEWHERE = "WARNING: spec.resources.gpusPerNode is …, but this pod has no accelerator: "
SAID = [
    text
    for path in sorted(TRAINER.rglob("*.py"))
    for text in texts(path)
    if " " in text and FOREIGN.search(text) and not text.startswith(ELSEWHERE)
]
OF_THE_CORE = [text for text in texts(OPERATOR / "core" / "failure.py") if "spec." in text]


def test_there_is_something_to_put_right() -> None:
    assert len(SAID) > 15
    assert len(OF_THE_CORE) >= 3


@pytest.mark.parametrize("text", [*SAID, *OF_THE_CORE], ids=lambda text: text[:60])
def test_advice_is_for_this_machine(text: str) -> None:
    assert not FOREIGN.search(here(text)), here(text)


@pytest.mark.parametrize(
    ("there", "at_home"),
    [
        (
            "train ran out of memory: raise spec.resources.memory, lower "
            "spec.training.sequenceLength, or set spec.training.gradientCheckpointing.",
            "train ran out of memory: lower spec.training.sequenceLength, set "
            "spec.training.gradientCheckpointing, or free memory on this machine. Correct it, then "
            "run the same command again.",
        ),
        (
            "The workspace volume is full: set spec.storage.size to a larger size.",
            "The disk of the workspace is full: free space on it, or name a directory on another "
            "disk with --workspace. Correct it, then run the same command again.",
        ),
        (
            "The prepared data are broken, because rows are missing: set spec.rerunToken to "
            "another value, so that prepare brings it again.",
            "The prepared data are broken, because rows are missing: say --start-over, so that "
            "prepare brings it again.",
        ),
        (
            "The token (spec.upload.tokenSecretRef) may not write to acme/x on https://h: use a "
            "token with write access to it, then set spec.rerunToken to a new value to go on from "
            "upload; with another spec.upload.repository the run starts over.",
            "The token (spec.upload.tokenSecretRef) may not write to acme/x on https://h: use a "
            "token with write access to it, then run the same command again; with another "
            "spec.upload.repository the run starts over.",
        ),
    ],
    ids=["memory", "disk", "broken", "token"],
)
def test_a_failure_reads_as_one_of_this_machine(there: str, at_home: str) -> None:
    assert localized(with_remedy(there), Path) == at_home


def test_what_is_the_same_everywhere_stays_as_it_is() -> None:
    text = 'spec.dataset.format names column "q", which the data set does not have; it has: a, b.'
    assert here(text) == text

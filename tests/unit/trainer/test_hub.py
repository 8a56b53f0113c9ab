"""Token files that hold something else, and sentences that must not hold a token."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

from finetune_trainer.hub import Subject, hub_errors, read_token
from finetune_trainer.outcome import RetryableError, UserError

MODEL = "spec.model"
SUBJECT = Subject("Model hf://a/b", f"{MODEL}.tokenSecretRef", f"{MODEL}.revision", "main", True)


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FINETUNE_SECRETS", str(tmp_path))
    for purpose in ("model", "dataset", "upload"):
        (tmp_path / purpose).mkdir()
    return tmp_path


def test_a_token_is_read_without_the_line_break_at_its_end(secrets: Path) -> None:
    (secrets / "model" / "token").write_bytes(b" hf_abc\r\n")
    (secrets / "dataset" / "token").write_bytes(b"\n")
    assert [read_token("model"), read_token("dataset"), read_token("upload")] == [
        "hf_abc",
        None,
        None,
    ]


@pytest.mark.parametrize("purpose", ["model", "dataset", "upload"])
@pytest.mark.parametrize(
    "value",
    [
        b"HF_TOKEN=hf_hush\nAWS_SECRET=hush\n",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nhush\n-----END OPENSSH PRIVATE KEY-----\n",
        b"hush hush",
        b"hush\x00",
        b"hush\xff",
        "hush-ü".encode(),
    ],
)
def test_what_is_no_token_is_refused_by_its_field_and_never_told(
    secrets: Path, purpose: str, value: bytes
) -> None:
    (secrets / purpose / "token").write_bytes(value)
    with pytest.raises(UserError, match=rf"spec\.{purpose}\.tokenSecretRef") as refused:
        read_token(purpose)
    assert "hush" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_no_sentence_holds_a_token(secrets: Path) -> None:
    (secrets / "model" / "token").write_text("hf_hush\n")
    with pytest.raises(RetryableError, match=r"Bearer \[token\]") as told, hub_errors(SUBJECT):
        raise httpx.TransportError("Illegal header value b'Bearer hf_hush'")
    assert "hush" not in str(told.value)

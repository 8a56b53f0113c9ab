"""Which answers to a report are a request for a checkpoint."""

from __future__ import annotations

import json

import pytest

from finetune_trainer.train.answer import MAXIMUM_BYTES, checkpoint_requested_at


@pytest.mark.parametrize(
    "time",
    [
        "2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00.5Z",
        "2026-01-31T12:00:00.123456789+02:00",
        "2026-01-31T12:00:00-11:30",
    ],
)
def test_a_time_asks_for_one(time: str) -> None:
    answer = {"checkpointRequestedAt": time, "anythingElse": 1}
    assert checkpoint_requested_at(json.dumps(answer).encode()) == time


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"{}",
        b"OK",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"2026-01-31T12:00:00Z"',
        b'{"message": "no"}',
        b'{"checkpointRequestedAt": null}',
        b'{"checkpointRequestedAt": 1769860800}',
        b'{"checkpointRequestedAt": ["2026-01-31T12:00:00Z"]}',
        b'{"checkpointRequestedAt": "now"}',
        b'{"checkpointRequestedAt": "2026-01-31"}',
        b'{"checkpointRequestedAt": "2026-01-31T12:00:00"}',
        b'{"checkpointRequestedAt": "2026-01-31T12:00:00Z\\nstep 9/9"}',
        b'{"checkpointRequestedAt": "2026-01-31T12:00:00.' + b"1" * 2000 + b'Z"}',
        '{"checkpointRequestedAt": "٢٠٢٦-01-31T12:00:00Z"}'.encode(),
        b"[" * MAXIMUM_BYTES,
    ],
)
def test_anything_else_does_not(answer: bytes) -> None:
    assert checkpoint_requested_at(answer) is None

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from finetune_operator.runtime.claims import LONGEST, meant_for

GOOD = {"aud": ["a", "b"], "sub": "system:serviceaccount:team-a:default"}


def _token(claims: Any) -> str:
    text = claims if isinstance(claims, str) else json.dumps(claims)
    body = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    return f"e30.{body}.c2ln"


@pytest.mark.parametrize(
    ("token", "meant"),
    [
        (_token(GOOD), True),
        (_token({**GOOD, "aud": "b"}), True),
        (_token({**GOOD, "aud": "ab"}), False),
        (_token({**GOOD, "aud": None}), False),
        (_token({**GOOD, "aud": {"b": 1}}), False),
        (_token({**GOOD, "sub": "system:serviceaccount:team-a-2:default"}), False),
        (_token({**GOOD, "sub": "team-a"}), False),
        (_token({**GOOD, "sub": 1}), False),
        (_token({**GOOD, "more": "x" * LONGEST}), False),
        (_token("[" * 5000), False),
        (_token([GOOD]), False),
        (_token("no json"), False),
        ("", False),
        ("a.b", False),
        ("a.ü.c", False),
        ("a.=.c", False),
    ],
)
def test_what_a_token_says_of_itself(token: str, meant: bool) -> None:
    assert meant_for(token, "b", "team-a") is meant

from __future__ import annotations

import json

import pytest

from finetune_operator.kube import errors

CASES = [
    (404, "NotFound", errors.NotFound),
    (410, "Expired", errors.Transient),
    (409, "AlreadyExists", errors.AlreadyExists),
    (409, "Conflict", errors.Conflict),
    (403, "Forbidden", errors.Denied),
    (401, "Unauthorized", errors.Transient),
    (422, "Invalid", errors.Invalid),
    (400, "BadRequest", errors.Invalid),
    (413, "RequestEntityTooLarge", errors.Invalid),
    (429, "TooManyRequests", errors.Transient),
    (500, "InternalError", errors.Transient),
    (503, "ServiceUnavailable", errors.Transient),
]


@pytest.mark.parametrize(("status", "reason", "kind"), CASES)
def test_an_answer_is_told_by_what_can_be_done_about_it(
    status: int, reason: str, kind: type[errors.ApiError]
) -> None:
    body = json.dumps({"kind": "Status", "reason": reason, "message": "what the server said"})
    error = errors.from_answer(status, body.encode())
    assert type(error) is kind
    assert error.message == str(error) == "what the server said"


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, 'admission webhook "policy.acme.dev" denied the request: no', errors.Denied),
        (
            422,
            "jobs.batch \"a\" is forbidden: ValidatingAdmissionPolicy 'gpus' with binding 'all' "
            "denied request: no",
            errors.Denied,
        ),
        (500, 'failed calling webhook "policy.acme.dev": no endpoints', errors.Transient),
    ],
)
def test_a_policy_denies_whatever_the_code(
    status: int, message: str, kind: type[errors.ApiError]
) -> None:
    error = errors.from_answer(status, json.dumps({"message": message}).encode())
    assert type(error) is kind


def test_an_answer_that_is_no_json_is_quoted() -> None:
    assert errors.from_answer(502, b"<html>bad gateway</html>").message == (
        "<html>bad gateway</html>"
    )


@pytest.mark.parametrize(
    ("header", "details", "seconds"),
    [("3", {}, 3.0), (None, {"retryAfterSeconds": 2}, 2.0), ("soon", {}, None), (None, {}, None)],
)
def test_the_server_says_when_to_come_back(
    header: str | None, details: dict[str, int], seconds: float | None
) -> None:
    error = errors.from_answer(429, json.dumps({"details": details}).encode(), header)
    assert isinstance(error, errors.Transient)
    assert error.retry_after == seconds

"""What an API call can fail with → one sentence with the next step. Pure: no call is made here."""

from __future__ import annotations

import json
from typing import Any

from finetune_cli.errors import CliError, Exit
from finetune_operator.vocabulary import API_VERSION, GROUP, PLURAL

_CHOOSE = "choose another cluster with --context or --kubeconfig"


class Missing(CliError):
    """A 404, before it is known of what; `body` is what the API server said."""

    def __init__(self, doing: str, namespace: str, body: str | bytes | None) -> None:
        super().__init__(
            f"The cluster cannot {doing} in namespace {namespace}: it is not there (404).",
            Exit.NOT_FOUND,
        )
        self.body = body


def no_access(place: str, reason: str) -> CliError:
    """No usable kubeconfig."""
    return CliError(
        f"There is no access to a cluster: {place} cannot be used ({reason}). Name a kubeconfig "
        "with --kubeconfig FILE or in KUBECONFIG.",
        Exit.NO_CLUSTER,
    )


def no_answer(server: str, reason: str) -> CliError:
    """Nothing answers at the API server's address."""
    return CliError(
        f"The cluster at {server} does not answer ({reason}): check it with "
        f"`kubectl cluster-info`, or {_CHOOSE}.",
        Exit.NO_CLUSTER,
    )


def unknown_resource(served: list[str] | None) -> CliError:
    """The API server has no FineTuneJobs of this version. `served`: versions of the group that it
    has; None: it does not know the group.
    """
    if served:
        return CliError(
            f"This cluster serves {GROUP} in version {', '.join(served)}, and this plug-in speaks "
            f"{API_VERSION.partition('/')[2]}: upgrade the older of the two "
            "(`pipx upgrade finetune-operator`, or the operator and its CRD).",
            Exit.NOT_FOUND,
        )
    return CliError(
        f"This cluster has no FineTuneJobs ({API_VERSION} is not installed): install the operator "
        "with `kubectl apply -k manifests/base`, or " + _CHOOSE + ".",
        Exit.NOT_FOUND,
    )


def not_there(name: str, namespace: str, alike: list[str]) -> CliError:
    """No FineTuneJob of that name."""
    hint = f"did you mean {alike[0]}?" if alike else "`kubectl finetune list -A` shows all."
    return CliError(
        f'There is no FineTuneJob "{name}" in namespace {namespace}: {hint}', Exit.NOT_FOUND
    )


def from_answer(
    status: int, body: str | bytes | None, doing: str, server: str, namespace: str
) -> CliError:
    """The sentence for an answer of 400 or more; `doing` is as in "list pods"."""
    said = _message(body)
    match status:
        case 401:
            return CliError(
                f"The cluster at {server} does not know you any more (401): log in again, or "
                f"{_CHOOSE}.",
                Exit.DENIED,
            )
        case 403 if "is forbidden: User" in said or "cannot" in said:
            role = "view" if doing.split()[0] in ("read", "list", "watch") else "edit"
            return CliError(
                f"You may not {doing} in namespace {namespace}: ask for the role {role} there "
                f"(`kubectl create rolebinding … --clusterrole={role} --user=… -n {namespace}`).",
                Exit.DENIED,
            )
        case 403:
            return CliError(f"The cluster refuses to {doing}: {said}", Exit.DENIED)
        case 409:
            return CliError(f"Somebody changed it meanwhile: try to {doing} again.", Exit.REFUSED)
        case 400 | 422 if "unknown field" in said:
            return CliError(
                f"The CRD of this cluster is older than this plug-in and does not know the field "
                f"({said}): upgrade the operator and its CRD.",
                Exit.REFUSED,
            )
        case 400 | 422:
            return CliError(f"The API server refuses to {doing}: {said}", Exit.REFUSED)
    return CliError(
        f"The cluster at {server} cannot {doing} now ({status}: {said}): try again in a moment.",
        Exit.NO_CLUSTER,
    )


def _message(body: str | bytes | None) -> str:
    text = body.decode(errors="replace") if isinstance(body, bytes) else body or ""
    try:
        document: Any = json.loads(text)
    except ValueError:
        document = None
    said = document.get("message") if isinstance(document, dict) else None
    return " ".join(str(said or text or "no reason given").split())[:500]


def is_about_an_object(body: str | bytes | None) -> bool:
    """Whether a 404 says that an object is missing, not that its kind is."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else body or ""
    try:
        details = json.loads(text).get("details") or {}
    except (ValueError, AttributeError):
        return False
    return bool(details.get("name")) and details.get("kind") == PLURAL

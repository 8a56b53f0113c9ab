"""The refusals of the Hub, in the form its client turns into its own exceptions.

Belongs here: status, `X-Error-Code` and wording of each refusal. Does not: when to refuse.
"""

from __future__ import annotations

from collections.abc import Mapping


class HubError(Exception):
    """A refusal: the client reads `code` and `message` from headers, people read the body."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        extra: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})


def repo_not_found(authenticated: bool) -> HubError:
    """Also the answer for a private repository: its existence is not given away."""
    if authenticated:
        return HubError(404, "Repository not found", "RepoNotFound")
    return HubError(401, "Invalid username or password.", "RepoNotFound")


def revision_not_found(revision: str) -> HubError:
    return HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def entry_not_found(path: str, commit: str) -> HubError:
    # The client remembers that a file is missing at a commit, so it needs to know which commit.
    headers = {"X-Repo-Commit": commit}
    return HubError(404, f"Entry not found: {path}", "EntryNotFound", headers=headers)


def gated(repo_id: str, authenticated: bool) -> HubError:
    message = f"Access to {repo_id} is restricted and you are not in the authorized list."
    return HubError(403 if authenticated else 401, message, "GatedRepo")


def bad_token() -> HubError:
    return HubError(401, "Invalid credentials in Authorization header")


def token_needed() -> HubError:
    return HubError(401, "Invalid username or password.")


def write_token_needed() -> HubError:
    return HubError(403, "Forbidden: you must use a write token to change a repository")


def namespace_forbidden(namespace: str) -> HubError:
    return HubError(403, f'You don\'t have the rights to write under the namespace "{namespace}"')


def bad_request(message: str) -> HubError:
    return HubError(400, message)


def conflict(message: str, **extra: str) -> HubError:
    return HubError(409, message, extra=extra)


def parent_moved() -> HubError:
    return HubError(412, "A commit has happened since. Please refresh and try again.")

"""The report of a run as `upload` has published it: where it is, and fetching it.

Raises `CliError` with the next step for whatever can be in the way.
"""

from __future__ import annotations

import os
from urllib.parse import quote, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from finetune_cli.errors import CliError, Exit
from finetune_cli.view import Run, dig

PATH = "finetune/report.html"
HUB = "https://huggingface.co"
SECONDS = 30.0
LIMIT_BYTES = 64 * 2**20
# How the trainer's page begins: from there on a browser runs no script and asks for nothing. What a
# run names as its report is opened on somebody's own machine.
BEGINNING = b"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="\
default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'">
"""


def is_published(run: Run) -> bool:
    """Whether the run has told of a commit on the Hub."""
    return bool(dig(run.status, "artifacts.url") and dig(run.status, "artifacts.commit"))


def address(run: Run) -> str:
    """The report in the commit that the run has published."""
    if not is_published(run):
        raise CliError(
            f"FineTuneJob {run.name} has published nothing, it is {run.phase}: "
            f"`kubectl finetune report {run.name} -n {run.namespace} --workspace` "
            "reads its report from the workspace.",
            Exit.NOT_FOUND,
        )
    url, commit = str(dig(run.status, "artifacts.url")), str(dig(run.status, "artifacts.commit"))
    return f"{url.rstrip('/')}/resolve/{quote(commit, safe='')}/{PATH}"


def fetch(url: str) -> bytes:
    """The report's bytes, with the token in HF_TOKEN if the address is the Hub's."""
    http = urllib3.PoolManager(retries=urllib3.Retry(2, redirect=5, raise_on_redirect=True))
    try:
        answer = http.request(
            "GET", url, headers=_headers(url), timeout=SECONDS, preload_content=False
        )
        content = answer.read(LIMIT_BYTES + 1)
    except (HTTPError, ValueError) as error:
        # urllib3 puts the cause into brackets and quotes of the errors around it.
        reason = str(error).rpartition(": ")[2].rstrip("\"')")
        reason += ")" * (reason.count("(") - reason.count(")"))
        raise CliError(
            f"{url} does not answer ({reason}): open it where it can be reached, or take the "
            "workspace's with --workspace.",
            Exit.NO_CLUSTER,
        ) from None
    if answer.status in (401, 403):
        raise CliError(
            f"You may not read {url}: put a token that may into HF_TOKEN, and the Hub's address "
            "into HF_ENDPOINT if it is not huggingface.co.",
            Exit.DENIED,
        )
    if answer.status == 404:
        raise CliError(
            f"There is nothing at {url}: the image that published the model wrote no report, or "
            "the repository is private and HF_TOKEN is not set.",
            Exit.NOT_FOUND,
        )
    if answer.status != 200 or len(content) > LIMIT_BYTES:
        raise CliError(f"{url} has no report for us ({answer.status}): open it yourself.")
    return only_shown(content, url)


def only_shown(page: bytes, where: str) -> bytes:
    """The page, if a browser will run nothing of it; CliError if that is not sure."""
    if not page.startswith(BEGINNING):
        raise CliError(
            f"What is at {where} is no report of ours: it does not forbid scripts. If you trust "
            "who has written it, open it yourself."
        )
    return page


def _headers(url: str) -> dict[str, str]:
    # The address is what a run has told of itself: no token goes where its owner did not point.
    hub = os.environ.get("HF_ENDPOINT") or HUB
    token = os.environ.get("HF_TOKEN")
    ours, asked = urlsplit(hub), urlsplit(url)
    if not token or (ours.scheme, ours.netloc) != (asked.scheme, asked.netloc):
        return {}
    return {"Authorization": f"Bearer {token}"}

"""The report is fetched from the Hub; the token goes to nobody else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from finetune_cli.errors import CliError, Exit
from finetune_cli.published import BEGINNING, address, fetch
from unit.cli.examples import training

COMMIT = "0123456789abcdef"


class Hub:
    """A server that has one page, for who holds the token."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None]] = []
        self.page = BEGINNING + b"<title>a run</title>"
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                token = self.headers.get("Authorization")
                hub.seen.append((self.path, token))
                found = self.path.endswith(f"/resolve/{COMMIT}/finetune/report.html")
                allowed = "private" not in self.path or token == "Bearer hf_secret"
                self.send_response(200 if found and allowed else 401 if found else 404)
                self.end_headers()
                self.wfile.write(hub.page)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    made = Hub()
    threading.Thread(target=made.server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", made.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield made
    made.server.shutdown()
    made.server.server_close()


def published(hub: Hub, repository: str = "acme/tuned", commit: str = COMMIT) -> str:
    artifacts = {"url": f"{hub.url}/{repository}", "commit": commit}
    return address(training(artifacts=artifacts))


def test_it_is_the_page_of_the_runs_own_commit(hub: Hub) -> None:
    assert fetch(published(hub)) == hub.page
    assert hub.seen == [(f"/acme/tuned/resolve/{COMMIT}/finetune/report.html", None)]


def test_a_private_one_needs_the_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CliError, match="put a token that may into HF_TOKEN") as raised:
        fetch(published(hub, "acme/private"))
    assert raised.value.code == Exit.DENIED
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert fetch(published(hub, "acme/private")) == hub.page


def test_the_token_goes_to_nobody_but_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.test")
    fetch(published(hub))
    assert [token for _, token in hub.seen] == [None]


def test_a_model_without_a_report_is_told(hub: Hub) -> None:
    with pytest.raises(CliError, match="There is nothing at") as raised:
        fetch(published(hub, commit="other"))
    assert raised.value.code == Exit.NOT_FOUND


def test_a_hub_that_does_not_answer_is_told(hub: Hub) -> None:
    url = published(hub)
    hub.server.shutdown()
    hub.server.server_close()
    refused = r"does not answer \(\[Errno \d+\] Connection refused\): open it where"
    with pytest.raises(CliError, match=refused) as raised:
        fetch(url)
    assert raised.value.code == Exit.NO_CLUSTER


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "nonsense"])
def test_an_address_that_is_none_is_told(url: str) -> None:
    artifacts = {"url": url or None, "commit": COMMIT}
    with pytest.raises(CliError, match=r"does not answer|has published nothing"):
        fetch(address(training(artifacts=artifacts)))


def test_of_a_run_that_publishes_nothing_the_workspace_is_pointed_to() -> None:
    with pytest.raises(CliError, match="-n demo --workspace` reads its report"):
        address(training())


@pytest.mark.parametrize(
    "before", [b"<script>alert(1)</script>", b"<html onload=alert(1)>", b"\xef\xbb\xbf", b" "]
)
def test_a_page_that_might_run_scripts_is_not_brought_home(hub: Hub, before: bytes) -> None:
    hub.page = before + BEGINNING
    with pytest.raises(CliError, match="it does not forbid scripts"):
        fetch(published(hub))

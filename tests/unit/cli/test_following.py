"""Logs are followed through faults that a real cluster shows only now and then; the rest is asked
of a real one, in tests/integration/test_cli.py and tests/e2e/test_cli.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from finetune_cli import following
from finetune_cli.cluster import Cluster
from finetune_cli.errors import CliError, Exit
from finetune_cli.following import Reader, follow
from finetune_cli.podlogs import PodLog
from unit.cli.answering import answered_by
from unit.cli.test_podlogs import pod

Json = dict[str, Any]
ALL = "2026-01-31T12:00:0"
FIRST, SECOND, THIRD = (f"{ALL}{second}.000000001Z {second}" for second in (1, 2, 3))


class Server:
    """Answers in turn; the last answer of a kind stays. A log of which only a part comes is one
    whose connection breaks off.
    """

    def __init__(self) -> None:
        self.runs: list[str | int] = ["Training", "Succeeded"]
        self.pods: list[list[Json]] = [[pod("train", 1, 0)], [pod("train", 1, 0, "Succeeded")]]
        self.logs: list[tuple[list[str], bool] | int] = []
        self.asked: list[dict[str, list[str]]] = []

    def answer(self, path: str) -> tuple[int, bytes, bool]:
        """Status, content, and whether all of it comes."""
        url = urlsplit(path)
        if url.path.endswith("/log"):
            self.asked.append(parse_qs(url.query))
            log = _next(self.logs)
            if isinstance(log, int):
                return log, b"{}", True
            return 200, "".join(f"{line}\n" for line in log[0]).encode(), log[1]
        if url.path.endswith("/pods"):
            return 200, json.dumps({"items": _next(self.pods)}).encode(), True
        phase = _next(self.runs)
        if isinstance(phase, int):
            return phase, b"{}", True
        status = {"phase": phase, "observedGeneration": 1}
        return 200, json.dumps({"metadata": {"generation": 1}, "status": status}).encode(), True


def _next(answers: list[Any]) -> Any:
    return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def cluster(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr(following, "PAUSE_SECONDS", 0.0)
    for manifest in (item for items in server.pods for item in items):
        manifest["metadata"]["creationTimestamp"] = "2026-01-31T12:00:00Z"
    with answered_by(_handler(server)) as found:
        yield found


def followed(cluster: Cluster, **query: Any) -> tuple[list[str], list[CliError]]:
    """The lines that come, and the troubles that are told."""
    lines: list[str] = []
    troubles: list[CliError] = []

    def put(log: PodLog, moment: str, line: str) -> None:
        lines.append(line)

    def trouble(log: PodLog, error: CliError) -> None:
        troubles.append(error)

    follow(cluster, "demo", {}, lambda: Reader(cluster, query, put, trouble))
    return lines, troubles


def test_a_log_that_breaks_off_goes_on_where_it_was(cluster: Cluster, server: Server) -> None:
    server.logs = [([FIRST, SECOND], False), ([SECOND, THIRD], True)]
    assert followed(cluster) == (["1", "2", "3"], [])
    assert server.asked[1]["sinceTime"] == [f"{ALL}2.000000001Z"]


def test_a_log_that_ends_before_its_pod_is_asked_for_again(
    cluster: Cluster, server: Server
) -> None:
    server.logs = [([FIRST], True), ([FIRST, SECOND], True)]
    assert followed(cluster) == (["1", "2"], [])
    assert "follow" in server.asked[0]
    assert "follow" not in server.asked[-1]


def test_the_last_lines_are_asked_for_once(cluster: Cluster, server: Server) -> None:
    server.logs = [([SECOND], False), ([SECOND, THIRD], True)]
    assert followed(cluster, tailLines=1) == (["2", "3"], [])
    assert ["tailLines" in query for query in server.asked] == [True, False]


def test_what_the_kubelet_says_itself_comes_through(cluster: Cluster, server: Server) -> None:
    server.logs = [(["unable to retrieve container logs"], True)]
    assert "unable to retrieve container logs" in followed(cluster)[0]


def test_a_cluster_that_is_away_for_a_moment_is_waited_for(
    cluster: Cluster, server: Server
) -> None:
    server.runs = ["Training", 503, 503, "Succeeded"]
    server.logs = [503, ([FIRST], True)]
    assert followed(cluster) == (["1"], [])


def test_patience_ends(cluster: Cluster, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PATIENCE_SECONDS", -1.0)
    server.runs = [503]
    with pytest.raises(CliError) as raised:
        followed(cluster)
    assert raised.value.code == Exit.NO_CLUSTER


def test_what_may_not_be_read_is_told_once(cluster: Cluster, server: Server) -> None:
    server.logs = [403]
    lines, [error] = followed(cluster)
    assert (lines, error.code) == ([], Exit.DENIED)


def test_a_pod_that_was_deleted_says_no_more(cluster: Cluster, server: Server) -> None:
    server.logs = [404]
    assert followed(cluster) == ([], [])


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, content, whole = server.answer(self.path)
            self.send_response(status)
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Connection", "close")
            self.end_headers()
            if content:
                self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
            if whole:
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    return Handler

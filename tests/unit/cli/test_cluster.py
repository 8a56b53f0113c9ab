"""Following a run through faults that a real API server shows only now and then; all else about the
cluster is asked of a real one, in tests/integration/test_cli.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from finetune_cli import cluster as module
from finetune_cli.cluster import Cluster
from finetune_cli.errors import CliError, Exit
from unit.cli.answering import answered_by

Json = dict[str, Any]


class Server:
    """Answers in turn: to a GET of the run the next of `runs`, to a watch the next of `watches`."""

    def __init__(self) -> None:
        self.runs: list[Json | int] = []
        self.watches: list[list[Json] | int] = []

    def next_run(self) -> Json | int:
        return self.runs.pop(0) if len(self.runs) > 1 else self.runs[0]


def run(version: int) -> Json:
    return {"metadata": {"name": "demo", "resourceVersion": str(version)}}


def changed(version: int) -> Json:
    return {"type": "MODIFIED", "object": run(version)}


GONE: Json = {"type": "ERROR", "object": {"code": 410}}
DELETED: Json = {"type": "DELETED", "object": run(99)}


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def cluster(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr("finetune_cli.cluster.time.sleep", lambda _: None)
    with answered_by(_handler(server)) as found:
        yield found


def versions(cluster: Cluster) -> list[int]:
    return [int(raw["metadata"]["resourceVersion"]) for raw in cluster.follow("demo")]


def test_each_change_is_seen_until_the_run_is_deleted(cluster: Cluster, server: Server) -> None:
    server.runs = [run(1)]
    server.watches = [[changed(2), changed(3), DELETED]]
    assert versions(cluster) == [1, 2, 3]


def test_a_watch_that_ends_is_begun_again_and_nothing_between_is_lost(
    cluster: Cluster, server: Server
) -> None:
    server.runs = [run(1), run(5)]
    server.watches = [[changed(2)], [changed(6), DELETED]]
    assert versions(cluster) == [1, 2, 5, 6]


def test_what_has_not_changed_is_not_told_again(cluster: Cluster, server: Server) -> None:
    server.runs = [run(1), run(2)]
    server.watches = [[changed(2)], [DELETED]]
    assert versions(cluster) == [1, 2]


@pytest.mark.parametrize("expired", [[GONE], 410], ids=["in the watch", "as its answer"])
def test_a_version_that_is_too_old_is_read_anew(
    cluster: Cluster, server: Server, expired: list[Json] | int
) -> None:
    server.runs = [run(1), run(7)]
    server.watches = [expired, [DELETED]]
    assert versions(cluster) == [1, 7]


def test_a_cluster_that_is_away_for_a_moment_is_waited_for(
    cluster: Cluster, server: Server
) -> None:
    server.runs = [run(1), 503, 503, run(4)]
    server.watches = [503, [DELETED]]
    assert versions(cluster) == [1, 4]


def test_patience_ends(cluster: Cluster, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", -1.0)
    server.runs, server.watches = [run(1), 503], [503]
    with pytest.raises(CliError, match="try again in a moment") as raised:
        versions(cluster)
    assert raised.value.code == Exit.NO_CLUSTER


def test_rights_that_are_taken_away_end_it_at_once(cluster: Cluster, server: Server) -> None:
    server.runs, server.watches = [run(1)], [403]
    with pytest.raises(CliError) as raised:
        versions(cluster)
    assert raised.value.code == Exit.DENIED


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            watches = "watch=true" in self.path
            answer = server.watches.pop(0) if watches else server.next_run()
            self.send_response(answer if isinstance(answer, int) else 200)
            self.end_headers()
            if isinstance(answer, int):
                return
            for item in answer if isinstance(answer, list) else [answer]:
                self.wfile.write(json.dumps(item).encode() + b"\n")

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    return Handler

"""The write of status: what becomes of its events when its answer is lost."""

from __future__ import annotations

from typing import Any, cast

import pytest

from finetune_operator.api.status import Status
from finetune_operator.core.model import Decision, Event
from finetune_operator.kube.client import Client
from finetune_operator.kube.errors import Conflict
from finetune_operator.runtime.memory import Memory
from finetune_operator.runtime.statuswriter import StatusWriter, as_json
from finetune_operator.runtime.store import Store
from finetune_operator.vocabulary import Phase
from unit.operator.runtime.manifests import KEY, run

DECISION = Decision((), Status(phase=Phase.PREPARING), (Event("Normal", "Started", "It runs."),))


class Server:
    """Takes the write, or says that somebody else was faster."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.told: list[str] = []
        self.conflict = False

    async def patch_status(self, *_: Any) -> dict[str, Any]:
        if self.conflict:
            raise Conflict("changed")
        return run(9, status=as_json(DECISION.status))

    async def create_event(self, _: str, event: dict[str, Any]) -> None:
        self.told.append(event["reason"])


async def write(server: Server, memory: Memory) -> None:
    entry = server.store.run(KEY)
    assert entry is not None
    writer = StatusWriter(cast(Client, server), server.store)
    await writer.write(entry.resource(), entry, DECISION, memory)


@pytest.fixture
def server() -> Server:
    store = Store()
    store.put_run(run(1))
    return Server(store)


async def test_a_write_is_told(server: Server) -> None:
    await write(server, Memory())
    assert server.told == ["Started"]
    await write(server, Memory())
    assert server.told == ["Started"]


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        (as_json(DECISION.status), ["Started"]),
        ({"phase": "Suspended"}, []),
    ],
)
async def test_a_conflict_with_itself_loses_no_event(
    server: Server, stored: dict[str, Any], told: list[str]
) -> None:
    memory = Memory()
    server.conflict = True
    with pytest.raises(Conflict):
        await write(server, memory)
    assert server.told == []
    server.store.put_run(run(2, status=stored))
    if told:
        await write(server, memory)
    else:
        with pytest.raises(Conflict):
            await write(server, memory)
    assert server.told == told

from __future__ import annotations

from finetune_operator.core.model import Event
from finetune_operator.runtime.events import manifest
from unit.operator.builders import NOW, UID, resource

ABOUT = resource().metadata


def test_an_event_points_at_the_resource() -> None:
    made = manifest(
        Event("Normal", "Started", "prepare runs"), about=ABOUT, version=255, index=0, now=NOW
    )
    assert made["involvedObject"]["uid"] == UID
    assert made["metadata"] == {"name": "demo.ff.0", "namespace": "team-a"}
    assert made["lastTimestamp"] == "2026-01-31T12:00:00Z"


def test_the_same_write_gives_the_same_name_and_another_another() -> None:
    event = Event("Normal", "Started", "x")
    names = {
        manifest(event, about=ABOUT, version=version, index=index, now=NOW)["metadata"]["name"]
        for version, index in ((1, 0), (1, 0), (1, 1), (2, 0))
    }
    assert len(names) == 3


def test_a_message_is_cut_to_what_the_api_server_takes() -> None:
    made = manifest(
        Event("Warning", "Failed", "x" * 5000), about=ABOUT, version=1, index=0, now=NOW
    )
    assert len(made["message"]) == 1024

"""A trainer that does what a test tells it to, in the place of the real one: it keeps the contract,
with the standard library alone, and writes down what it was given.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from finetune_cli.local.bindings import Bindings
from finetune_cli.local.order import Order, order
from finetune_cli.local.place import Place
from finetune_cli.local.session import Session
from finetune_cli.local.wording import localized
from finetune_operator.api.status import Status
from finetune_operator.core.model import Settings
from finetune_operator.vocabulary import Stage

Json = dict[str, Any]
SETTINGS = Settings(trainer_image="local")

TRAINER = """
import json, os, signal, sys, time, urllib.request
from pathlib import Path

here, stage, attempt = Path(__file__).parent, sys.argv[1], os.environ["FINETUNE_ATTEMPT"]
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
contents = ("FINETUNE_SECRETS", "FINETUNE_SOURCES", "FINETUNE_LOSS_DIRECTORY")
files = [file for name in contents for file in Path(os.environ[name]).rglob("*")]
given = {str(file): file.read_text() for file in files if file.is_file()}
run = json.loads(Path(os.environ["FINETUNE_RUN_FILE"]).read_text())
call = {"stage": stage, "attempt": int(attempt), "env": dict(os.environ)}
call |= {"files": given, "plan": run["planHash"]}
with (here / "calls.jsonl").open("a") as file:
    file.write(json.dumps(call) + "\\n")
said, code, result = stage + " is done.", 0, {}
for word in json.loads((here / "script.json").read_text()).get(stage + "-" + attempt, []):
    what, _, rest = word.partition(" ")
    if what == "say":
        said = rest
    elif what == "find":
        result = json.loads(rest)
    elif what == "exit":
        code = int(rest)
    elif what == "ask":  # Ctrl-C, of who runs it
        os.kill(os.getppid(), signal.SIGTERM)
    elif what == "wait":
        while not asked:
            time.sleep(0.01)
    elif what == "sleep":
        time.sleep(60)
    elif what == "crash":
        sys.exit(rest)
    elif what == "report":
        time.sleep(1.1)  # times in a status are whole seconds
        metrics = [{"name": "current_step", "value": rest}, {"name": "loss", "value": "1.5"}]
        body = {"trainerStatus": {"progressPercentage": 50, "metrics": metrics}}
        token = Path(os.environ["KUBEFLOW_TRAINER_SERVER_TOKEN"]).read_text()
        url = os.environ["KUBEFLOW_TRAINER_SERVER_URL"]
        headers = {"Authorization": "Bearer " + token}
        request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
        urllib.request.urlopen(request).read()
        print("step " + rest + "/9  loss 1.5", flush=True)
document = {"stage": stage, "outcome": str(code), "message": said, "result": result}
Path(os.environ["FINETUNE_TERMINATION_LOG"]).write_text(json.dumps(document))
sys.exit(code)
"""

RUN: Json = {
    "apiVersion": "finetune.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "demo"},
    "spec": {
        "model": {"source": "hf://acme/base", "tokenSecretRef": {"name": "hf-read"}},
        "dataset": {"source": "configmap://rows/rows.jsonl", "format": {"questionAnswer": {}}},
        "method": {"lora": {"rank": 4}},
        "upload": {"repository": "acme/tuned", "tokenSecretRef": {"name": "hf-write"}},
    },
}


class Bench:
    """A directory for runs of the stand-in."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trainer = folder / "trainer" / "finetune_trainer"
        self.trainer.mkdir(parents=True)
        (self.trainer / "__main__.py").write_text(TRAINER)
        monkeypatch.setenv("PYTHONPATH", str(self.trainer.parent))
        self.place = Place(folder / "demo")
        self.document = json.loads(json.dumps(RUN))
        self.bindings = Bindings(config_maps={"rows": {"rows.jsonl": "{}"}}, token="hf_secret")
        self.shown: list[Json] = []

    def order(self, *, until: Stage | None = None, start_over: bool = False) -> Order:
        """What a call is to do."""
        return order(
            self.document,
            self.place,
            SETTINGS,
            self.bindings,
            datetime.now(UTC),
            python=sys.executable,
            until=until,
            start_over=start_over,
        )

    def run(
        self,
        script: Mapping[str, Sequence[str]] | None = None,
        *,
        until: Stage | None = None,
        start_over: bool = False,
    ) -> Status:
        """One call of `finetune run`; `script` is what attempts (`train-1`) do."""
        (self.trainer / "script.json").write_text(json.dumps(script or {}))
        with self.place.held():
            wanted = self.order(until=until, start_over=start_over)
            return Session(wanted, self.place, SETTINGS, self.shown.append).drive()

    def calls(self) -> list[Json]:
        """What the stand-in was given, call by call."""
        file = self.trainer / "calls.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()]

    def stages(self) -> list[str]:
        """As in `train-2`."""
        return [f"{call['stage']}-{call['attempt']}" for call in self.calls()]

    def said(self, status: Status) -> str:
        """The message as a person reads it."""
        return localized(status.message or "", self.place.log)

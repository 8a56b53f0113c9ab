"""`python -m finetune_dashboards FOLDER`: write the dashboards there, as Grafana's JSON."""

from __future__ import annotations

import sys
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from finetune_dashboards import fleet, operator, run

DASHBOARDS = {"fleet": fleet.board, "operator": operator.board, "run": run.board}


def text(made: Dashboard) -> str:
    """The JSON that Grafana imports: panels numbered in order, the same at every run."""
    model = made.build()
    number = 0
    for outer in model.panels or []:
        for panel in (outer, *(getattr(outer, "panels", None) or ())):
            number += 1
            panel.id_val = number
    return JSONEncoder(sort_keys=True, indent=1).encode(model) + "\n"


def main(folder: Path) -> None:
    """Write all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, made in DASHBOARDS.items():
        (folder / f"{name}.json").write_text(text(made()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""`report.html`: one page about a run, from what lies in its workspace.

`read` gathers the facts, `page` lays them out; both know nothing of each other but `facts`. A
report is a service to people: that it cannot be made never fails a stage.
"""

from __future__ import annotations

import os
import sys

from finetune_trainer.outcome import UserError
from finetune_trainer.run import Run, load_run
from finetune_trainer.workspace import Workspace, write_text

REPORT, PICTURE = "report.html", "loss.png"
WIDTH, HEIGHT = 700.0, 280.0


def leave_report(workspace: Workspace) -> None:
    """Write the report of the run in the workspace as it stands now, over an earlier one.

    Of several pods the first one does. Nothing is raised: what went wrong is said in the log.
    """
    if os.environ.get("FINETUNE_NODE_RANK", "0") != "0":
        return
    try:
        run = load_run()
        if workspace.plan_hash.read_text().strip() != run.works_by("prepare"):
            return
        # Imported late: a stage pays for it when all else is done.
        from finetune_trainer.report.page import report_page
        from finetune_trainer.report.read import read_facts

        write_text(workspace.report, report_page(read_facts(run, workspace, public=False)))
    except (FileNotFoundError, UserError):
        return  # no plan that can be read, or a workspace that is no run's
    except Exception as error:
        _say(error)


def beside_model(run: Run, workspace: Workspace) -> dict[str, bytes]:
    """The report and the loss as a picture, by their names, as they may be shown to everybody: with
    none of the data's text. The same bytes on every call for the same workspace.

    Nothing is raised: what cannot be made is not there, and the log says why.
    """
    found: dict[str, bytes] = {}
    try:
        from finetune_trainer.report.page import report_page
        from finetune_trainer.report.panels import loss_drawing
        from finetune_trainer.report.png import png
        from finetune_trainer.report.read import read_facts

        facts = read_facts(run, workspace, public=True)
        found[REPORT] = report_page(facts).encode()
        if (drawing := loss_drawing(facts, WIDTH, HEIGHT)) is not None:
            found[PICTURE] = png(drawing)
    except Exception as error:
        _say(error)
    return found


def _say(error: Exception) -> None:
    words = " ".join(str(error).split())[:300]
    print(f"no report: {type(error).__name__}: {words}", file=sys.stderr, flush=True)


__all__ = ["PICTURE", "REPORT", "beside_model", "leave_report"]

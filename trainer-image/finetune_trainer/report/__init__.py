"""`report.html`: one page about a run, from what lies in its workspace.

`read` gathers the facts, `page` lays them out; both know nothing of each other but `facts`. A
report is a service to people: that it cannot be made never fails a stage.
"""

from __future__ import annotations

import os
import sys

from finetune_trainer.outcome import UserError
from finetune_trainer.run import load_run
from finetune_trainer.workspace import Workspace, write_text


def leave_report(workspace: Workspace) -> None:
    """Write the report of the run in the workspace as it stands now, over an earlier one.

    Of several pods the first one does. Nothing is raised: what went wrong is said in the log.
    """
    if os.environ.get("FINETUNE_NODE_RANK", "0") != "0":
        return
    try:
        run = load_run()
        if workspace.plan_hash.read_text().strip() != run.plan_hash:
            return
        # Imported late: a stage pays for it when all else is done.
        from finetune_trainer.report.page import report_page
        from finetune_trainer.report.read import read_facts

        write_text(workspace.report, report_page(read_facts(run, workspace, public=False)))
    except (FileNotFoundError, UserError):
        return  # no plan that can be read, or a workspace that is no run's
    except Exception as error:
        words = " ".join(str(error).split())[:300]
        print(f"no report: {type(error).__name__}: {words}", file=sys.stderr, flush=True)


__all__ = ["leave_report"]

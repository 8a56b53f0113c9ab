"""The objects of a run as text: YAML, a List, or a script that takes the stages one by one.

Between two stages the operator waits until a Job is complete. In a file nobody waits, so all Jobs
but the first are suspended; in the script a loop does. A pod that waited by itself would hold its
GPUs meanwhile, and on a ReadWriteOnce claim could keep the stage before it from its own volume.
"""

from __future__ import annotations

from typing import Any

from finetune_cli.exported import Export
from finetune_cli.output import text_of
from finetune_operator.vocabulary import ANNOTATION_PLAN_HASH

Json = dict[str, Any]

_ABOUT = """\
# FineTuneJob {name} for a cluster without the operator: what it would create, in order.
# Jobs after the first are suspended: when one is complete, start the next,
#   {kubectl} patch job {second} --type=merge -p '{{"spec":{{"suspend":false}}}}'
# `kubectl finetune export-job … -o sh` prints a script that does. To remove all of it, results too:
#   {kubectl} delete job,service,configmap,pvc -l finetune.dev/run={name}
"""

_SCRIPT = """\
#!/bin/sh
# FineTuneJob {name} without the operator: each stage when the one before it is complete.
# It ends at a stage that fails; run it again, and it goes on with that stage. It may be stopped
# and run again at any time: what is done is not done twice. To remove all of it, results too:
#   {kubectl} delete job,service,configmap,pvc -l finetune.dev/run={name}
set -eu

{function}# Whether Job $1 has the condition $2.
has() {{
  status='{{.status.conditions[?(@.type=="'$2'")].status}}'
  [ "$(kubectl get job "$1" -o "jsonpath=$status")" = True ]
}}

# Remove Job $1, and wait until its pods are gone.
remove() {{
  kubectl delete job "$1" --cascade=foreground --wait </dev/null
}}

# Run Job $1, which comes on the standard input, to its end. One that is there is left to work.
stage() {{
  there=$(kubectl get job "$1" --ignore-not-found -o name)
  if [ -n "$there" ] && has "$1" Failed; then
    remove "$1"
    there=
  fi
  [ -n "$there" ] || kubectl apply -f -
  until has "$1" Complete; do
    if has "$1" Failed; then
      kubectl logs "job/$1" --tail=20 >&2 || true
      echo "Job $1 has failed: correct what it says, then run this again." >&2
      exit 1
    fi
    sleep {pause}
  done
}}

# What runs by a former plan of this run would have the same workspace: it is stopped first.
each='{{range .items[*]}}{{.metadata.name}} {{.metadata.annotations.{annotation}}}{{"\\n"}}{{end}}'
kubectl get job -l finetune.dev/run={name} -o "jsonpath=$each" | while read -r job plan; do
  [ "$plan" = {plan} ] || remove "$job"
done

kubectl apply -f - <<'EOF'
{besides}EOF

{stages}echo "FineTuneJob {name} is complete."
"""
_STAGE = """\
stage {job} <<'EOF'
{manifest}EOF

"""
PAUSE_SECONDS = 5


def yaml_of(export: Export) -> str:
    """Documents to apply all at once."""
    # Of a run with one stage there is no second: every run has prepare and train.
    second = export.jobs[1]["metadata"]["name"]
    about = _ABOUT.format(name=export.name, second=second, kubectl=_kubectl(export))
    return about + "---\n" + _documents(_in_order(export))


def list_of(export: Export) -> Json:
    """The same as one object."""
    return {"apiVersion": "v1", "kind": "List", "items": _in_order(export)}


def script_of(export: Export) -> str:
    """A script for a POSIX shell that applies them and waits."""
    function = f'kubectl() {{ command {_kubectl(export)} "$@"; }}\n\n' if export.namespace else ""
    stages = (
        _STAGE.format(job=job["metadata"]["name"], manifest=_documents([job]))
        for job in export.jobs
    )
    return _SCRIPT.format(
        name=export.name,
        kubectl=_kubectl(export),
        function=function,
        annotation=ANNOTATION_PLAN_HASH.replace(".", "\\."),
        plan=export.plan_hash,
        besides=_documents(export.besides),
        stages="".join(stages),
        pause=PAUSE_SECONDS,
    )


def _kubectl(export: Export) -> str:
    return f"kubectl -n {export.namespace}" if export.namespace else "kubectl"


def _in_order(export: Export) -> list[Json]:
    first, *rest = export.jobs
    rest = [_suspended(job) for job in rest]
    return [*export.besides, _suspended(first) if export.suspended else first, *rest]


def _suspended(job: Json) -> Json:
    return {**job, "spec": {"suspend": True, **job["spec"]}}


def _documents(items: list[Json]) -> str:
    return "---\n".join(text_of(item) for item in items)

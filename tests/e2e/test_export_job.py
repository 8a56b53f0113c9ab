"""What `export-job` prints trains a model on a real node where nobody has made a FineTuneJob."""

from __future__ import annotations

import json
from pathlib import Path

from e2e.bench import Bench, Stack, tiny_job
from stack import hub
from stack.desk import Desk


def test_the_script_takes_a_run_from_data_to_the_hub_without_an_operator(
    bench: Bench, stack: Stack, tmp_path: Path
) -> None:
    upload = {
        "repository": "acme/exported",
        "artifacts": ["Adapter"],
        "tokenSecretRef": {"name": "hf-write"},
    }
    job = tiny_job("exported", upload=upload)
    desk = Desk(stack.cluster, bench.namespace, tmp_path)
    (tmp_path / "run.yaml").write_text(json.dumps(job))
    settings = ("--hub-endpoint", hub.ENDPOINT, "--allow-cpu")
    image = ("--trainer-image", stack.cluster.image("trainer"))
    script = desk.run("export-job", "run.yaml", *image, *settings, "-o", "sh")
    (tmp_path / "run.sh").write_text(script)

    said = desk.end(desk.launch("sh", "run.sh"), seconds=300)

    assert said.splitlines()[-1] == "FineTuneJob exported is complete."
    assert bench.jobs("exported") == [
        f"exported-{stage}-1" for stage in ("prepare", "train", "upload")
    ]
    log = bench.kubectl("logs", "job/exported-train-1")
    assert "step 12/12" in log
    assert "progress cannot be reported" not in log
    with hub.reachable(stack.cluster) as api:
        files = set(api.list_repo_files("acme/exported"))
    assert {"adapter_model.safetensors", "finetune/report.html"} <= files

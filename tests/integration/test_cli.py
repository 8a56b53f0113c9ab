"""`kubectl finetune` against a real API server and the real operator; the test plays the nodes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.handle import Cluster
from finetune_cli.errors import Exit
from finetune_cli.published import BEGINNING
from finetune_operator.api.crdgen import definition
from integration.crd_server import install as install_crd
from integration.kubelet import NODE, running
from integration.operator_process import (
    NAMESPACE,
    OperatorProcess,
    free_port,
    install,
    kubeconfig,
)
from integration.world import World, until
from stack.desk import Desk

SPEC: dict[str, Any] = {"upload": None}


@pytest.fixture(scope="module")
def operator(control_plane: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    directory = tmp_path_factory.mktemp("operator")
    install(control_plane)
    access = kubeconfig(control_plane, directory / "kubeconfig")
    process = OperatorProcess(access, directory / "log")
    process.start()
    yield
    process.kill()


@pytest.fixture
def world(control_plane: Cluster, operator: None) -> Iterator[World]:
    with control_plane.namespace("cli") as namespace:
        yield World(control_plane, namespace)


@pytest.fixture
def desk(world: World, tmp_path: Path) -> Desk:
    return Desk(world.cluster, world.namespace, tmp_path)


def test_kubectl_finds_the_plug_in(desk: Desk) -> None:
    assert "Usage: kubectl finetune" in desk.end(desk.start("finetune", "--help"))


def test_a_run_is_listed_and_its_status_told(world: World, desk: Desk) -> None:
    world.apply("demo", **SPEC)
    world.finish("demo-prepare-1", message="1,900 rows.", totalSteps=200, memoryEstimateBytes=9)
    world.run("demo-train-1")
    world.wait_for_phase("demo", "Training")
    until(lambda: "demo-train-1" in str(world.status("demo").get("stages")), "train has begun")
    assert desk.run("list").splitlines()[1].split()[:2] == ["demo", "Training"]
    assert "MESSAGE" in desk.run("list", "-A", "-o", "wide").splitlines()[0]
    assert desk.run("list", "-o", "name") == "finetunejob.finetune.dev/demo\n"
    assert json.loads(desk.run("list", "-o", "json"))["items"][0]["metadata"]["name"] == "demo"
    assert desk.run("list", "-l", "team=a") == ""

    status = desk.run("status", "demo", "-o", "wide")
    assert "✔  prepare" in status
    assert "1,900 rows." in status
    assert "▶  train" in status
    assert "Ready" in status
    assert yaml.safe_load(desk.run("status", "demo", "-o", "yaml"))["status"]["phase"] == "Training"


def test_the_plan_of_a_run_is_the_pinned_one(world: World, desk: Desk) -> None:
    world.apply("demo", **SPEC)
    world.finish("demo-prepare-1", message="Done.", totalSteps=200)
    world.wait_for_phase("demo", "Training")
    shown = desk.run("plan", "demo")
    assert f"plan {world.status('demo')['planHash']}" in shown
    assert "finetune-trainer:test" in shown
    assert "200 steps" in shown


def test_wait_ends_when_all_runs_have_succeeded(world: World, desk: Desk) -> None:
    world.apply("one", **SPEC)
    world.apply("two", **SPEC)
    waiting = desk.start("finetune", "wait", "one", "two", "-n", world.namespace)
    for name in ("one", "two"):
        for stage in ("prepare", "train"):
            world.finish(f"{name}-{stage}-1", message="Done.")
    out = desk.end(waiting)
    assert [line.split(":")[0] for line in out.splitlines()] == ["one", "two"]


def test_wait_ends_at_once_when_one_of_its_runs_fails(world: World, desk: Desk) -> None:
    world.apply("first", **SPEC)
    world.apply("demo", **SPEC)
    waiting = desk.start("finetune", "wait", "first", "demo", "-n", world.namespace)
    world.finish("demo-prepare-1", 10, message="The data has no column question.")
    assert "demo: Failed  The data has no column question." in desk.end(waiting, Exit.BAD)


def test_wait_gives_up_when_time_is_up_or_the_run_is_deleted(world: World, desk: Desk) -> None:
    world.apply("demo", **SPEC)
    world.wait_for_phase("demo", "Preparing")
    said = desk.run("wait", "demo", "--timeout", "1", code=Exit.TIMEOUT)
    assert 'Time is up and FineTuneJob "demo" is Preparing' in said
    waiting = desk.start("finetune", "wait", "demo", "-n", world.namespace)
    assert waiting.stderr is not None
    waiting.stderr.readline()
    world.delete("demo")
    assert "was deleted meanwhile" in desk.end(waiting, Exit.NOT_FOUND)


def test_watch_prints_each_change_where_there_is_no_terminal(world: World, desk: Desk) -> None:
    world.apply("demo", **SPEC)
    watching = desk.start("finetune", "status", "demo", "--watch", "-n", world.namespace)
    for stage in ("prepare", "train"):
        world.finish(f"demo-{stage}-1", message="Done.")
    assert desk.end(watching).splitlines()[-1].startswith("demo: Succeeded")


def test_suspend_resume_and_stop_do_what_they_say(world: World, desk: Desk) -> None:
    world.apply("demo", **SPEC)
    world.run("demo-prepare-1")
    assert "is not suspended" in desk.run("resume", "demo", code=Exit.BAD)
    assert "is being suspended" in desk.run("suspend", "demo")
    world.wait_for_end_of("demo-prepare-1")
    world.wait_for_phase("demo", "Suspended")
    assert "goes on" in desk.run("resume", "demo")
    world.run("demo-prepare-2")
    stopping = desk.start("finetune", "stop", "demo", "-n", world.namespace)
    world.wait_for_end_of("demo-prepare-2")
    assert "demo is stopped" in desk.end(stopping)
    assert world.jobs() == []


def test_a_checkpoint_is_asked_for_by_an_annotation_and_of_a_training_alone(
    world: World, desk: Desk
) -> None:
    world.apply("demo", **SPEC)
    world.wait_for_phase("demo", "Preparing")
    assert "there is nothing to save" in desk.run("checkpoint", "demo", code=Exit.BAD)
    world.finish("demo-prepare-1", message="Done.")
    world.wait_for_phase("demo", "Training")
    said = desk.run("checkpoint", "demo")
    [time] = re.findall(r"asked for a checkpoint \((\S+)\)", said)
    annotation = r"{.metadata.annotations.finetune\.dev/checkpoint-requested-at}"
    about = ("ftj/demo", "-n", world.namespace, "-o", f"jsonpath={annotation}")
    assert world.cluster.kubectl("get", *about) == time


def test_rerun_goes_on_with_a_failed_run_and_asks_before_a_finished_one(
    world: World, desk: Desk
) -> None:
    world.apply("demo", **SPEC)
    world.wait_for_phase("demo", "Preparing")
    assert "has not ended" in desk.run("rerun", "demo", code=Exit.BAD)
    world.finish("demo-prepare-1", 10, message="Wrong.")
    world.wait_for_phase("demo", "Failed")
    assert "there is nothing to suspend" in desk.run("suspend", "demo", code=Exit.BAD)
    assert "goes on from the stage that failed" in desk.run("rerun", "demo", "--token", "a")
    world.finish("demo-prepare-2", message="Done.")
    world.finish("demo-train-1", message="Done.")
    world.wait_for_phase("demo", "Succeeded")
    assert "is a already" in desk.run("rerun", "demo", "--token", "a", code=Exit.BAD)
    assert "say --yes to do all of it again" in desk.run("rerun", "demo", code=Exit.BAD)
    assert "starts over" in desk.run("rerun", "demo", "--yes")
    world.wait_for_job("demo-prepare-3")


def test_runs_are_compared(world: World, desk: Desk) -> None:
    world.apply("small", method={"lora": {"rank": 8}}, **SPEC)
    world.apply("large", method={"lora": {"rank": 64}}, **SPEC)
    found = json.loads(desk.run("compare", "small", "large", "-o", "json"))
    assert found["settings"] == {"method.lora.rank": ["8", "64"]}
    assert "method.lora.rank   8       64" in desk.run("compare", "small", "large")


def test_a_run_that_has_published_nothing_has_no_report_on_the_hub(
    world: World, desk: Desk
) -> None:
    world.apply("demo", **SPEC)
    said = desk.run("report", "demo", "--url", code=Exit.NOT_FOUND)
    advice = f"`kubectl finetune report demo -n {world.namespace} --workspace` reads its report"
    assert advice in said


def test_the_report_of_a_workspace_is_read_by_a_pod_that_is_gone_afterwards(
    world: World, desk: Desk
) -> None:
    if world.cluster.provider != "control-plane":
        pytest.skip("needs a kubelet of its own, in a control plane of its own")
    with running(world.cluster) as kubelet:
        world.apply("demo", **SPEC)
        world.wait_for_job("demo-prepare-1")
        for code, printed, exit_code in (
            (1, ["cat: /workspace/report.html: No such file or directory"], Exit.NOT_FOUND),
            (0, [*BEGINNING.decode().splitlines(), "<p>äöü</p>", "</html>"], Exit.OK),
        ):
            reading = desk.start("finetune", "report", "demo", "-n", world.namespace)
            pod = world.wait_for_pod_called("demo-read-")
            world.bind(pod, NODE)
            kubelet.log(pod, *printed, close=True)
            world.finish_pod(pod, "read", code)
            desk.end(reading, exit_code)
            assert "demo-read-" not in str(world.pod_names())
    page = (desk.directory / "demo.html").read_text()
    assert page == BEGINNING.decode() + "<p>äöü</p>\n</html>\n"


def test_logs_of_all_stages_and_attempts_are_followed(world: World, desk: Desk) -> None:
    if world.cluster.provider != "control-plane":
        pytest.skip("needs a kubelet of its own, in a control plane of its own")
    with running(world.cluster) as kubelet:
        world.apply("demo", **SPEC)
        assert "has a log yet" in desk.run("logs", "demo", code=Exit.BAD)
        following = desk.start("finetune", "logs", "demo", "-f", "-n", world.namespace)
        prepare = world.run_on(NODE, "demo-prepare-1")
        kubelet.log(prepare, "downloads", "\x1b[32mpreview\x1b[0m", close=True)
        world.finish("demo-prepare-1", message="Done.", totalSteps=20)
        train = world.run_on(NODE, "demo-train-1")
        kubelet.log(train, "step 10/20  loss 2.5")
        until(lambda: world.status("demo")["phase"] == "Training" or None, "it trains")
        assert following.stdout is not None
        lines = [following.stdout.readline().rstrip("\n") for _ in range(3)]
        assert lines == [
            "prepare-1 | downloads",
            "prepare-1 | preview",
            "train-1/0 | step 10/20  loss 2.5",
        ]
        kubelet.log(train, "step 20/20  loss 1.5", close=True)
        # The curve of `status` is read from the same log.
        assert "└──" in desk.run("status", "demo")
        world.finish("demo-train-1", message="Done.")
        assert desk.end(following) == "train-1/0 | step 20/20  loss 1.5\n"
        assert desk.run("logs", "demo", "--stage", "train") == (
            "train-1/0 | step 10/20  loss 2.5\ntrain-1/0 | step 20/20  loss 1.5\n"
        )
        assert "has such a log" in desk.run("logs", "demo", "--attempt", "2", code=Exit.BAD)


def test_names_are_completed_from_the_cluster(world: World, desk: Desk) -> None:
    world.apply("alpha", **SPEC)
    world.apply("beta", **SPEC)
    asked = desk.start("__complete", "finetune", "status", "-n", world.namespace, "a")
    assert desk.end(asked).splitlines() == ["alpha", ":4"]


@pytest.mark.usefixtures("operator")
class TestBadInput:
    """One sentence with the next step, whatever is wrong."""

    def test_a_run_that_is_not_there(self, world: World, desk: Desk) -> None:
        world.apply("gemma-math", **SPEC)
        for words in (
            ["status"],
            ["logs"],
            ["wait"],
            ["checkpoint"],
            ["suspend"],
            ["resume"],
            ["rerun"],
            ["stop"],
            ["report"],
        ):
            said = desk.run(*words, "gema-math", code=Exit.NOT_FOUND)
            assert f'no FineTuneJob "gema-math" in namespace {world.namespace}' in said
            assert "did you mean gemma-math?" in said

    def test_a_person_without_rights(self, world: World, desk: Desk, tmp_path: Path) -> None:
        account = "nobody-in-particular"
        world.cluster.kubectl("create", "serviceaccount", account, "-n", NAMESPACE, check=False)
        access = kubeconfig(world.cluster, tmp_path / "nobody", account)
        said = desk.run("list", code=Exit.DENIED, kubeconfig=access)
        assert f"You may not list FineTuneJobs in namespace {world.namespace}" in said
        assert "--clusterrole=view" in said

    def test_a_person_who_may_only_look(self, world: World, desk: Desk, tmp_path: Path) -> None:
        account = "reader"
        world.cluster.kubectl("create", "serviceaccount", account, "-n", NAMESPACE, check=False)
        world.cluster.kubectl(
            *("create", "rolebinding", "reader", "--clusterrole=view", "-n", world.namespace),
            f"--serviceaccount={NAMESPACE}:{account}",
        )
        world.apply("demo", **SPEC)
        access = kubeconfig(world.cluster, tmp_path / "reader", account)
        until(lambda: "demo" in _said(desk, access) or None, "the role is in force")
        said = desk.run("suspend", "demo", code=Exit.DENIED, kubeconfig=access)
        assert "You may not change FineTuneJobs" in said
        assert "--clusterrole=edit" in said

    def test_a_token_that_is_not_known(self, world: World, desk: Desk, tmp_path: Path) -> None:
        config = yaml.safe_load(world.cluster.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": "made-up"}
        said = desk.run("list", code=Exit.DENIED, kubeconfig=_written(tmp_path / "unknown", config))
        assert "does not know you any more (401): log in again" in said

    def test_a_cluster_that_is_away(self, world: World, desk: Desk, tmp_path: Path) -> None:
        config = yaml.safe_load(world.cluster.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{free_port()}"
        begun = time.monotonic()
        access = _written(tmp_path / "away", config)
        said = desk.run("status", "x", code=Exit.NO_CLUSTER, kubeconfig=access)
        assert "does not answer (Connection refused): check it with `kubectl cluster-info`" in said
        assert time.monotonic() - begun < 30

    def test_a_cluster_that_somebody_else_signed(
        self, world: World, desk: Desk, tmp_path: Path
    ) -> None:
        config = yaml.safe_load(world.cluster.kubeconfig.read_text())
        config["clusters"][0]["cluster"].pop("certificate-authority-data", None)
        config["clusters"][0]["cluster"].pop("certificate-authority", None)
        access = _written(tmp_path / "unsigned", config)
        said = desk.run("list", code=Exit.NO_CLUSTER, kubeconfig=access)
        assert "certificate verify failed" in said

    def test_a_context_that_is_not_there(self, desk: Desk) -> None:
        said = desk.run("list", "--context", "nowhere", code=Exit.NO_CLUSTER)
        assert "it has no context nowhere, only " in said


def test_a_cluster_without_the_operator_and_one_with_another_version(
    control_plane: Cluster, tmp_path: Path
) -> None:
    if control_plane.provider != "control-plane":
        pytest.skip("takes away the CRD of the whole cluster, which is not ours alone")
    desk = Desk(control_plane, "default", tmp_path)
    install_crd(control_plane, definition())
    try:
        control_plane.kubectl("delete", "crd", "finetunejobs.finetune.dev", "--wait=true")
        until(lambda: "no FineTuneJobs" in _failed(desk) or None, "the CRD is gone")
        said = desk.run("list", code=Exit.NOT_FOUND)
        assert "install the operator with `kubectl apply -k manifests/base`" in said
        other = definition()
        other["spec"]["versions"][0]["name"] = "v1beta9"
        install_crd(control_plane, other)
        until(lambda: "v1beta9" in _failed(desk) or None, "the other version is served")
        assert "serves finetune.dev in version v1beta9" in desk.run("list", code=Exit.NOT_FOUND)
    finally:
        control_plane.kubectl("delete", "crd", "finetunejobs.finetune.dev", "--wait=true")
        install_crd(control_plane, definition())


def _failed(desk: Desk) -> str:
    process = desk.start("finetune", "list", "-n", desk.namespace)
    return process.communicate(timeout=60)[1]


def _said(desk: Desk, access: Path) -> str:
    process = desk.start("finetune", "list", "-n", desk.namespace, kubeconfig=access)
    return process.communicate(timeout=60)[0]


def _written(path: Path, config: dict[str, Any]) -> Path:
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))
    return path

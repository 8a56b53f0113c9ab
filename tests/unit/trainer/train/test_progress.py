"""The client against a real HTTP(S) server."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from finetune_trainer.train import progress
from finetune_trainer.train.progress import Endpoint, Reporter, report
from finetune_trainer.train.recipe import train
from finetune_trainer.train.stop import Stop
from unit.trainer.train.made import plan, prepared_workspace
from unit.trainer.train.progress_server import Server, progress_server, wait_for


@pytest.fixture
def server() -> Iterator[Server]:
    with progress_server() as made:
        yield made


@pytest.fixture
def endpoint(server: Server, tmp_path: Path) -> Endpoint:
    (tmp_path / "token").write_text("first\n")
    return Endpoint(f"http://{server.address}", tmp_path / "token", None)


def steps(server: Server) -> list[str]:
    return server.told("current_step")


def test_a_report_has_the_shape_of_the_protocol() -> None:
    status = report(84, 200, {"loss": 1.93, "grad_norm": float("nan")}, 309.6)["trainerStatus"]
    datetime.strptime(status.pop("lastUpdatedTime"), "%Y-%m-%dT%H:%M:%SZ")
    assert status == {
        "progressPercentage": 42,
        "estimatedRemainingSeconds": 310,
        "metrics": [
            {"name": "current_step", "value": "84"},
            {"name": "total_steps", "value": "200"},
            {"name": "loss", "value": "1.93"},
        ],
    }


@pytest.mark.timeout(60)
def test_the_first_and_the_last_values_go_at_once_and_those_between_are_dropped(
    server: Server, endpoint: Endpoint
) -> None:
    with Reporter(endpoint, period=3600) as reporter:
        reporter.put(1, 9, {}, None)
        wait_for(lambda: len(server.bodies) == 1)
        for step in range(2, 10):
            reporter.put(step, 9, {}, None)
    assert steps(server) == ["1", "9"]


def test_a_validation_loss_is_not_lost_to_the_step_after_it(
    server: Server, endpoint: Endpoint
) -> None:
    with Reporter(endpoint, period=60) as reporter:
        reporter.put(1, 9, {"loss": 3.0}, None)
        wait_for(lambda: len(server.bodies) == 1)
        reporter.put(2, 9, {"eval_loss": 2.5}, None)
        reporter.put(3, 9, {"loss": 2.0}, None)
    told = {metric["name"]: metric["value"] for metric in server.bodies[-1]["metrics"]}
    assert told == {"current_step": "3", "total_steps": "9", "loss": "2", "eval_loss": "2.5"}


def test_a_checkpoint_is_told_when_it_is_there_with_the_values_of_before(
    server: Server, endpoint: Endpoint
) -> None:
    with Reporter(endpoint, period=0) as reporter:
        reporter.saved(0)  # before there is anything to report
        reporter.put(3, 9, {"loss": 3.0}, None)
        wait_for(lambda: len(server.bodies) == 1)
        reporter.saved(3)
    assert server.told("checkpoint_step") == ["0", "3"]
    assert (steps(server), server.told("loss")) == (["3", "3"], ["3", "3"])


def test_a_request_is_known_from_the_first_answer_that_has_it(
    server: Server, endpoint: Endpoint
) -> None:
    with Reporter(endpoint, period=0) as reporter:
        reporter.put(1, 9, {}, None)
        wait_for(lambda: len(server.bodies) == 1)
        assert reporter.requested() is None
        for answer in (b'{"checkpointRequestedAt": "2026-01-31T12:00:00Z"}', b"{}"):
            server.answer = answer
            reporter.put(2, 9, {}, None)
            wait_for(reporter.requested)
        assert reporter.requested() == "2026-01-31T12:00:00Z"


def test_a_slow_server_does_not_hold_up_the_training(server: Server, endpoint: Endpoint) -> None:
    server.hold.clear()
    with Reporter(endpoint, period=0) as reporter:
        for step in range(100):
            reporter.put(step, 100, {}, None)
        assert not server.bodies  # nothing was answered yet
        server.hold.set()
    assert steps(server)[-1] == "99"


def test_the_token_is_read_again_for_every_report(server: Server, endpoint: Endpoint) -> None:
    assert endpoint.token_file is not None
    with Reporter(endpoint, period=0) as reporter:
        reporter.put(1, 2, {}, None)
        wait_for(lambda: len(server.bodies) == 1)
        endpoint.token_file.write_text("second")
        reporter.put(2, 2, {}, None)
    assert server.tokens == ["Bearer first", "Bearer second"]


def test_an_outage_is_survived_and_told_once(
    server: Server, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    server.status = 503
    with Reporter(endpoint, period=0) as reporter:
        for step in (1, 2):
            reporter.put(step, 3, {}, None)
            wait_for(lambda step=step: len(server.bodies) == step)
        server.status = 200
        reporter.put(3, 3, {}, None)
    assert steps(server) == ["1", "2", "3"]
    assert capsys.readouterr().err.count("progress cannot be reported") == 1


def test_a_server_that_speaks_no_http_is_survived(
    server: Server, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(server.http.RequestHandlerClass, "protocol_version", "nonsense")
        with Reporter(endpoint, period=0) as reporter:
            reporter.put(1, 2, {}, None)
            wait_for(lambda: len(server.bodies) == 1)
            patch.undo()
            reporter.put(2, 2, {}, None)
    assert steps(server) == ["1", "2"]


@pytest.mark.timeout(120)
def test_a_server_that_does_not_answer_costs_the_steps_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()
    server.hold = answer
    monkeypatch.setattr(progress, "REQUEST_SECONDS", 600.0)
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", f"http://{server.address}")
    monkeypatch.delenv("KUBEFLOW_TRAINER_SERVER_CA_CERT", raising=False)
    workspace = prepared_workspace(tmp_path)

    def answer_when_the_model_is_there() -> None:
        while not workspace.adapter.is_dir():
            time.sleep(0.01)
        answer.set()

    threading.Thread(target=answer_when_the_model_is_there, daemon=True).start()
    # A step that waited for the server would wait for the end of the run, and so for itself.
    train(plan(maxSteps=6), workspace, Stop())
    assert steps(server) == ["0", "6"]


def test_without_an_endpoint_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBEFLOW_TRAINER_SERVER_URL", raising=False)
    assert Endpoint.from_environment() is None
    with Reporter(None) as reporter:
        reporter.put(1, 2, {}, None)


def test_without_the_file_of_its_authority_nothing_is_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", "https://operator.example:8443")
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_CA_CERT", str(tmp_path / "ca.crt"))
    assert Endpoint.from_environment() is None
    assert "progress is not reported: there is no " in capsys.readouterr().err


def test_tls_is_verified_with_the_file_that_the_environment_names(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", f"https://{server.address}")
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_CA_CERT", str(certificate))
    monkeypatch.delenv("KUBEFLOW_TRAINER_SERVER_TOKEN", raising=False)
    with Reporter(Endpoint.from_environment(), period=0) as reporter:
        reporter.put(1, 1, {}, None)
    assert steps(server) == ["1"]
    with Reporter(Endpoint(f"https://{server.address}", None, None), period=0) as reporter:
        reporter.put(2, 2, {}, None)
    assert steps(server) == ["1"]


def self_signed(directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "progress")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = directory / "certificate.pem", directory / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files

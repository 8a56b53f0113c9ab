from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

from finetune_operator.runtime import certificate, serving


def strict(authority: str) -> ssl.SSLContext:
    """As newer Pythons verify."""
    context = ssl.create_default_context(cadata=authority)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_clients_that_know_the_authority_trust_the_server(tmp_path: Path, host: str) -> None:
    made = certificate.make(["localhost", "127.0.0.1"])
    runner = web.AppRunner(web.Application())
    await runner.setup()
    await web.TCPSite(
        runner, "127.0.0.1", 0, ssl_context=certificate.context(made, tmp_path)
    ).start()
    port = runner.addresses[0][1]
    async with ClientSession() as session:
        url = f"https://{host}:{port}/"
        async with session.get(url, ssl=strict(made.authority)) as answer:
            assert answer.status == 404
        other = certificate.make(["localhost", "127.0.0.1"])
        with pytest.raises(ssl.SSLError):
            await session.get(url, ssl=strict(other.authority))
    await runner.cleanup()


def test_a_directory_keeps_its_certificate(tmp_path: Path) -> None:
    made = serving.from_directory(tmp_path / "tls", ["localhost"])
    assert serving.from_directory(tmp_path / "tls", ["localhost"]) == made
    assert (tmp_path / "tls" / "tls.key").stat().st_mode & 0o077 == 0


def test_a_certificate_of_ones_own_without_authority_is_its_own(tmp_path: Path) -> None:
    made = certificate.make(["localhost"])
    (tmp_path / "tls.crt").write_text(made.chain)
    (tmp_path / "tls.key").write_text(made.key)
    found = certificate.read(tmp_path)
    assert found is not None
    assert found.authority == made.chain


def test_pods_find_the_service_by_any_of_its_names() -> None:
    assert serving.service_hosts("ns") == [
        "finetune-operator",
        "finetune-operator.ns",
        "finetune-operator.ns.svc",
        "finetune-operator.ns.svc.cluster.local",
    ]

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_operator.kube import auth


async def test_a_missing_kubeconfig_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(auth.AuthError, match=r"missing.*--kubeconfig FILE, set KUBECONFIG"):
        await auth.load(str(tmp_path / "missing"))


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\n"
        "clusters: [{name: c, cluster: {server: 'https://example.com:6443'}}]\n"
        "users: [{name: u, user: {token: secret}}]\n"
        "contexts: [{name: a, context: {cluster: c, user: u}}]\n"
    )
    return path


async def test_a_kubeconfig_gives_server_and_token(kubeconfig: Path) -> None:
    found = await auth.load(str(kubeconfig))
    assert found.configuration.host == "https://example.com:6443"
    assert await found.bearer() == "secret"
    assert not found.in_cluster


@pytest.mark.parametrize(
    ("no_proxy", "proxy"), [("", "http://proxy:3128"), ("example.com", None), (".com", None)]
)
async def test_the_proxy_of_the_environment_is_used_as_kubectl_does(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch, no_proxy: str, proxy: str | None
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    found = await auth.load(str(kubeconfig))
    assert found.configuration.proxy == proxy


async def test_a_proxy_in_the_kubeconfig_comes_first(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    own = kubeconfig.read_text().replace("{server:", "{proxy-url: 'http://own:1', server:")
    kubeconfig.write_text(own)
    found = await auth.load(str(kubeconfig))
    assert found.configuration.proxy == "http://own:1"

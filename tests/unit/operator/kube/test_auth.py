from __future__ import annotations

from pathlib import Path

import pytest

from finetune_operator.kube import auth


async def test_a_missing_kubeconfig_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(auth.AuthError, match=r"missing.*--kubeconfig FILE, set KUBECONFIG"):
        await auth.load(str(tmp_path / "missing"))


async def test_a_kubeconfig_gives_server_and_token(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\n"
        "clusters: [{name: c, cluster: {server: 'https://example.com:6443'}}]\n"
        "users: [{name: u, user: {token: secret}}]\n"
        "contexts: [{name: a, context: {cluster: c, user: u}}]\n"
    )
    found = await auth.load(str(path))
    assert found.configuration.host == "https://example.com:6443"
    assert await found.bearer() == "secret"
    assert not found.in_cluster

"""What the options for cluster and namespace become in advice."""

from __future__ import annotations

import pytest

from finetune_cli.options import Target


@pytest.mark.parametrize(
    ("target", "advice"),
    [
        (Target(), "`kubectl finetune status demo`"),
        (Target(namespace="team-a"), "`kubectl finetune status demo -n team-a`"),
        (
            Target(context="my cluster", kubeconfig="/etc/k"),
            "`kubectl finetune status demo --context 'my cluster' --kubeconfig /etc/k`",
        ),
    ],
)
def test_advice_is_about_the_same_namespace_and_cluster(target: Target, advice: str) -> None:
    assert target.advice("status", "demo") == advice

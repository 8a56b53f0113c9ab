from __future__ import annotations

from finetune_operator.kube.resources import JOBS, PODS, TOKEN_REVIEWS


def test_paths() -> None:
    assert JOBS.path() == "/apis/batch/v1/jobs"
    assert JOBS.path("ns") == "/apis/batch/v1/namespaces/ns/jobs"
    assert JOBS.path("ns", "x", "status") == "/apis/batch/v1/namespaces/ns/jobs/x/status"
    assert PODS.path("ns", "x") == "/api/v1/namespaces/ns/pods/x"
    assert TOKEN_REVIEWS.path("ns") == "/apis/authentication.k8s.io/v1/tokenreviews"

"""Which connections NetworkPolicies let pass, by the semantics of networking.k8s.io/v1.

A reading of the objects, no network: the test cluster's plug-in (`bridge`) enforces no policy. What
is not known here raises an error, so nothing passes by being overlooked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """`ports`: those that its containers name."""

    namespace: str
    labels: Mapping[str, str]
    ports: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Outside:
    """What is no pod: a node, the API server, the Internet."""

    name: str


Peer = Pod | Outside


def passes(
    policies: Iterable[Json], source: Peer, target: Peer, port: int, protocol: str = "TCP"
) -> bool:
    """Whether the source's policies let this connection out and the target's let it in."""
    known = list(policies)
    to = (target, port, protocol)
    return _lets(known, "egress", source, target, to) and _lets(
        known, "ingress", target, source, to
    )


def pod_of(namespace: str, template: Json) -> Pod:
    """The pod that a template makes."""
    named = {
        port["name"]: port["containerPort"]
        for container in template["spec"]["containers"]
        for port in container.get("ports", [])
    }
    return Pod(namespace, template["metadata"]["labels"], named)


_To = tuple[Peer, int, str]


def _lets(policies: list[Json], way: str, local: Peer, other: Peer, to: _To) -> bool:
    if isinstance(local, Outside):
        return True
    mine = [policy for policy in policies if _isolates(policy, way, local)]
    rules = [(policy, rule) for policy in mine for rule in policy["spec"].get(way, [])]
    return not mine or any(
        _any_peer(rule, way, policy["metadata"]["namespace"], other) and _any_port(rule, to)
        for policy, rule in rules
    )


def _isolates(policy: Json, way: str, pod: Pod) -> bool:
    spec = _only(policy["spec"], "podSelector", "policyTypes", "ingress", "egress")
    return (
        policy["metadata"]["namespace"] == pod.namespace
        and way.capitalize() in spec["policyTypes"]
        and _matches(spec["podSelector"], pod.labels)
    )


def _any_peer(rule: Json, way: str, namespace: str, other: Peer) -> bool:
    key = "from" if way == "ingress" else "to"
    peers = _only(rule, key, "ports").get(key)
    return not peers or any(_is_peer(peer, namespace, other) for peer in peers)


def _is_peer(peer: Json, namespace: str, other: Peer) -> bool:
    _only(peer, "podSelector", "namespaceSelector")
    if isinstance(other, Outside):
        return False
    if "namespaceSelector" in peer:
        labels = {"kubernetes.io/metadata.name": other.namespace}
        near = _matches(peer["namespaceSelector"], labels)
    else:
        near = other.namespace == namespace
    return near and _matches(peer.get("podSelector", {}), other.labels)


def _any_port(rule: Json, to: _To) -> bool:
    ports = rule.get("ports")
    return not ports or any(_is_port(port, to) for port in ports)


def _is_port(entry: Json, to: _To) -> bool:
    target, port, protocol = to
    wanted = _only(entry, "port", "protocol").get("port")
    if isinstance(wanted, str):
        wanted = target.ports.get(wanted, -1) if isinstance(target, Pod) else -1
    return entry.get("protocol", "TCP") == protocol and wanted in (None, port)


def _matches(selector: Json, labels: Mapping[str, str]) -> bool:
    wanted: Json = _only(selector, "matchLabels").get("matchLabels", {})
    return wanted.items() <= labels.items()


def _only(found: Json, *known: str) -> Json:
    if unknown := set(found) - set(known):
        raise NotImplementedError(f"{', '.join(sorted(unknown))} of a NetworkPolicy is not read")
    return found

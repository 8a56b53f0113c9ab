"""`spec.scheduling.affinity`: a pod's affinity with the names of core/v1, every list and string
bounded.

Its limits are what one scheduling decision needs, not what core/v1 allows: a run's document is kept
in the operator's memory, and a document without bounds could fill it. What the terms mean is the
scheduler's matter; the API server judges them when the first Job is made.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from finetune_operator.api.schema import ApiModel

# A prefix of 253 characters, a slash and a name of 63.
LabelKey = Annotated[str, Field(min_length=1, max_length=317)]
LabelValue = Annotated[str, Field(max_length=63)]
NamespaceName = Annotated[str, Field(min_length=1, max_length=63)]
Weight = Annotated[int, Field(ge=1, le=100)]


class NodeLabelRequirement(ApiModel):
    """What a label of the node must be."""

    key: LabelKey = Field(description="Label of the node.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = Field(
        description="How the label is compared with the values."
    )
    values: list[LabelValue] | None = Field(
        default=None,
        max_length=16,
        description="What it is compared with; none for Exists and DoesNotExist.",
    )


class NodeFieldRequirement(ApiModel):
    """What a field of the node must be."""

    key: Literal["metadata.name"] = Field(description="Field of the node: metadata.name.")
    operator: Literal["In", "NotIn"] = Field(description="In or NotIn.")
    values: list[Annotated[str, Field(max_length=253)]] = Field(
        min_length=1, max_length=1, description="One node's name."
    )


class NodeSelectorTerm(ApiModel):
    """Requirements that a node must meet all together."""

    match_expressions: list[NodeLabelRequirement] | None = Field(
        default=None, max_length=8, description="What the node's labels must be."
    )
    match_fields: list[NodeFieldRequirement] | None = Field(
        default=None, max_length=1, description="What the node's fields must be."
    )


class NodeSelector(ApiModel):
    """Terms of which a node must meet one."""

    node_selector_terms: list[NodeSelectorTerm] = Field(
        min_length=1, max_length=4, description="The terms; one is enough."
    )


class PreferredNode(ApiModel):
    """A wish for certain nodes."""

    weight: Weight = Field(description="How much it counts, from 1 to 100.")
    preference: NodeSelectorTerm = Field(description="The nodes.")


class NodeAffinity(ApiModel):
    """Which nodes the pods may or should run on."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = Field(
        default=None, description="Nodes that the pods may run on."
    )
    preferred_during_scheduling_ignored_during_execution: list[PreferredNode] | None = Field(
        default=None, max_length=4, description="Nodes that the pods should run on."
    )


class LabelRequirement(ApiModel):
    """What a label must be."""

    key: LabelKey = Field(description="The label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="How the label is compared with the values."
    )
    values: list[LabelValue] | None = Field(
        default=None,
        max_length=8,
        description="What it is compared with; none for Exists and DoesNotExist.",
    )


class LabelSelector(ApiModel):
    """Objects by their labels; an empty selector means all."""

    match_labels: dict[str, LabelValue] | None = Field(
        default=None, max_length=4, description="Labels with the value that they must have."
    )
    match_expressions: list[LabelRequirement] | None = Field(
        default=None, max_length=4, description="What the labels must be."
    )


class PodAffinityTerm(ApiModel):
    """Pods, and how near to them or far from them."""

    topology_key: LabelKey = Field(
        description="Label of the nodes; nodes with the same value are one place."
    )
    label_selector: LabelSelector | None = Field(default=None, description="The pods.")
    namespace_selector: LabelSelector | None = Field(
        default=None, description="Namespaces of the pods. Default: that of the FineTuneJob."
    )
    namespaces: list[NamespaceName] | None = Field(
        default=None, max_length=4, description="Namespaces of the pods, by name."
    )
    match_label_keys: list[LabelKey] | None = Field(
        default=None, max_length=2, description="Labels whose values must be those of the own pod."
    )
    mismatch_label_keys: list[LabelKey] | None = Field(
        default=None,
        max_length=2,
        description="Labels whose values must differ from those of the own pod.",
    )


class PreferredPods(ApiModel):
    """A wish to be near to certain pods, or far from them."""

    weight: Weight = Field(description="How much it counts, from 1 to 100.")
    pod_affinity_term: PodAffinityTerm = Field(description="The pods.")


class PodAffinity(ApiModel):
    """Which pods to be near to, or far from."""

    required_during_scheduling_ignored_during_execution: list[PodAffinityTerm] | None = Field(
        default=None, max_length=3, description="Must be met."
    )
    preferred_during_scheduling_ignored_during_execution: list[PreferredPods] | None = Field(
        default=None, max_length=3, description="Should be met."
    )


class Affinity(ApiModel):
    """A pod's affinity, as in v1 PodSpec."""

    node_affinity: NodeAffinity | None = Field(
        default=None, description="Nodes that the pods may or should run on."
    )
    pod_affinity: PodAffinity | None = Field(
        default=None, description="Pods that the pods must or should be near to."
    )
    pod_anti_affinity: PodAffinity | None = Field(
        default=None, description="Pods that the pods must or should be far from."
    )

"""The default StorageClass: a folder of this machine for every claim.

Volumes are of the kind `local`, which honours `fsGroup` as real disks do. Their folders belong to
root: a non-root pod that forgets `fsGroup` fails here as it would on a real disk. Sizes are not
enforced. Only decisions are here; the watching is in `helper.py`.
"""

from __future__ import annotations

from pathlib import Path

from cluster.api import Json

CLASS = "local"
PROVISIONER = "local.finetune.dev"
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_SELECTED_NODE = "volume.kubernetes.io/selected-node"
_DEFAULT = "storageclass.kubernetes.io/is-default-class"

STORAGE_CLASS: Json = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": CLASS, "annotations": {_DEFAULT: "true"}},
    "provisioner": PROVISIONER,
    "reclaimPolicy": "Delete",
    "volumeBindingMode": "WaitForFirstConsumer",
}


def volume_for(claim: Json, root: Path) -> Json | None:
    """The volume that a claim is waiting for, or None when it waits for nothing from us."""
    metadata, spec = claim["metadata"], claim["spec"]
    node = metadata.get("annotations", {}).get(_SELECTED_NODE)
    if (
        spec.get("storageClassName") != CLASS
        or spec.get("volumeMode", "Filesystem") != "Filesystem"
        or spec.get("volumeName")
        or metadata.get("deletionTimestamp")
        or not node
    ):
        return None
    name = f"pvc-{metadata['uid']}"
    on_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {_PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": CLASS,
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "local": {"path": str(root / name)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_node]}]}},
        },
    }


def to_delete(volume: Json, root: Path) -> Path | None:
    """The folder of a volume that nobody claims any more and that is ours to delete."""
    ours = volume["metadata"].get("annotations", {}).get(_PROVISIONED_BY) == PROVISIONER
    released = volume.get("status", {}).get("phase") == "Released"
    delete = volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
    folder = Path(volume["spec"].get("local", {}).get("path", "/"))
    return folder if ours and released and delete and folder.parent == root else None

"""A small process beside the cluster: makes and removes volumes, keeps the GPUs on the node.

Started by `local.py` as `python -m cluster.helper STATE`. Each concern is one loop over a list and
a watch, so that whatever was missed is seen again.
"""

from __future__ import annotations

import functools
import http.client
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from cluster import gpus, volumes
from cluster.api import ApiError, Client, Json
from cluster.control_plane import ControlPlane
from cluster.processes import Supervisor

_RETRY_SECONDS = 0.5


def _claim(root: Path, client: Client, claim: Json) -> None:
    volume = volumes.volume_for(claim, root)
    if volume is None:
        return
    folder = Path(volume["spec"]["local"]["path"])
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        client.call("POST", "/api/v1/persistentvolumes", volume)
    except ApiError as error:
        if error.status != http.client.CONFLICT:
            raise
    else:
        print(f"made {volume['metadata']['name']}", flush=True)


def _volume(root: Path, client: Client, volume: Json) -> None:
    folder = volumes.to_delete(volume, root)
    if folder is None:
        return
    shutil.rmtree(folder, ignore_errors=True)
    name = volume["metadata"]["name"]
    try:
        client.call("DELETE", f"/api/v1/persistentvolumes/{name}")
    except ApiError as error:
        if error.status != http.client.NOT_FOUND:
            raise
    else:
        print(f"removed {name}", flush=True)


def _node(client: Client, node: Json) -> None:
    if gpus.missing(node):
        name = node["metadata"]["name"]
        client.call("PATCH", f"/api/v1/nodes/{name}/status", gpus.status_patch())
        print(f"gave {name} its GPUs", flush=True)


def _follow(
    connect: Callable[[], Client], path: str, handle: Callable[[Client, Json], None]
) -> None:
    while True:
        watching, acting = connect(), connect()
        try:
            for item in watching.list_and_watch(path):
                handle(acting, item)
        except (ApiError, OSError, http.client.HTTPException, ValueError) as error:
            print(f"{path}: {error}", flush=True)
        except Exception:
            traceback.print_exc()
        finally:
            watching.close()
            acting.close()
        time.sleep(_RETRY_SECONDS)


def main(state: Path) -> None:
    plane = ControlPlane(state, Supervisor(state))
    plane.load()
    root = state / "volumes"
    loops = (
        ("/api/v1/persistentvolumeclaims", functools.partial(_claim, root)),
        ("/api/v1/persistentvolumes", functools.partial(_volume, root)),
        ("/api/v1/nodes", _node),
    )
    threads = [
        threading.Thread(target=_follow, args=(plane.client, path, handle), name=path)
        for path, handle in loops
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

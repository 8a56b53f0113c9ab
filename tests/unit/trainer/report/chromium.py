"""A headless Chromium, driven over its DevTools protocol: how a page looks, and what it asks for.

Debian's package is installed once, where this may be done.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cluster import packages
from cluster.errors import ClusterError

COMMAND = "chromium"
START_SECONDS = 60.0


def require_chromium() -> str:
    """The command's path, after installing the package if it is missing; the test is skipped where
    only root on a Debian could install it.
    """
    if shutil.which(COMMAND) is None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            pytest.skip("chromium is missing, and only root on Debian can install it here")
        try:
            packages.ensure({COMMAND: COMMAND})
        except ClusterError as error:
            pytest.skip(f"no browser: {error}")
    found = shutil.which(COMMAND)
    assert found is not None
    return found


@dataclass(slots=True)
class Page:
    """A page that is open; `errors` are the console's, `requests` all addresses asked for."""

    send: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    async def look(
        self, *, width: int, dark: bool = False, height: int = 900, media: str = ""
    ) -> None:
        """Be a screen of this size and taste."""
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1 if width > 500 else 2,
            mobile=width <= 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", media=media, features=[scheme])

    async def ask(self, expression: str) -> Any:
        """What an expression of JavaScript is."""
        found = await self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def picture(self, file: Path) -> None:
        """The whole page as PNG."""
        found = await self.send("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(found["data"]))

    async def print_to(self, file: Path) -> None:
        """The page as PDF, on the paper that its stylesheet names."""
        found = await self.send("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        file.write_bytes(base64.b64decode(found["data"]))


@asynccontextmanager
async def opened(file: Path, profile: Path) -> AsyncIterator[Page]:
    """The page in `file`, loaded in a browser of its own."""
    process = await asyncio.create_subprocess_exec(
        require_chromium(),
        "--headless=new",
        "--no-sandbox",  # it needs user namespaces, which containers may not have
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--no-first-run",
        "--disable-background-networking",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        address = await asyncio.wait_for(_address(profile), START_SECONDS)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(address, max_msg_size=2**28) as socket,
            _attached(socket) as page,
        ):
            for domain in ("Page", "Runtime", "Log", "Network"):
                await page.send(f"{domain}.enable")
            await page.send("Page.navigate", url=file.as_uri())
            while await page.ask("document.readyState") != "complete":
                await asyncio.sleep(0.02)
            yield page
    finally:
        process.kill()
        await process.wait()


async def _address(profile: Path) -> str:
    """Where the browser listens, which it writes down once it does."""
    file = profile / "DevToolsActivePort"
    while not (file.exists() and file.read_text().count("\n") == 1):
        await asyncio.sleep(0.02)
    port, path = file.read_text().split("\n")
    return f"ws://127.0.0.1:{port}{path}"


@asynccontextmanager
async def _attached(socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[Page]:
    numbers = itertools.count(1)
    waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
    target: dict[str, str] = {}

    async def send(method: str, **parameters: Any) -> dict[str, Any]:
        number = next(numbers)
        waiting[number] = asyncio.get_running_loop().create_future()
        await socket.send_json({"id": number, "method": method, "params": parameters, **target})
        return await waiting[number]

    page = Page(send)

    async def listen() -> None:
        async for message in socket:
            told = message.json()
            if "id" in told:
                future = waiting[told["id"]]
                if "error" in told:
                    future.set_exception(RuntimeError(told["error"]["message"]))
                else:
                    future.set_result(told["result"])
            else:
                _note(page, told["method"], told["params"])

    listener = asyncio.create_task(listen())
    try:
        made = await send("Target.createTarget", url="about:blank")
        attached = await send("Target.attachToTarget", targetId=made["targetId"], flatten=True)
        target["sessionId"] = attached["sessionId"]
        yield page
    finally:
        listener.cancel()


def _note(page: Page, method: str, told: dict[str, Any]) -> None:
    match method:
        case "Network.requestWillBeSent":
            page.requests.append(told["request"]["url"])
        case "Log.entryAdded" if told["entry"]["level"] in ("error", "warning"):
            page.errors.append(told["entry"]["text"])
        case "Runtime.exceptionThrown" | "Runtime.consoleAPICalled":
            page.errors.append(method)
        case "Page.javascriptDialogOpening":
            page.errors.append(f"dialog: {told['message']}")

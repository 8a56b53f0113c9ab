"""/metrics over HTTP."""

from __future__ import annotations

from aiohttp.test_utils import TestClient, TestServer

from finetune_operator.runtime.exposition import Exposition
from finetune_operator.runtime.meter import Meter
from unit.operator.runtime.scraped import series


async def test_a_scraper_gets_the_format_that_it_asks_for() -> None:
    exposition = Exposition(Meter().registry)
    async with TestClient(TestServer(exposition.application())) as client:
        plain = await client.get("/metrics")
        assert plain.headers["Content-Type"].startswith("text/plain")
        assert ("finetune_operator_queue_depth", ()) in series(await plain.text())
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        modern = await client.get("/metrics", headers=accept)
        assert modern.headers["Content-Type"].startswith("application/openmetrics-text")
        assert (await modern.text()).endswith("# EOF\n")

"""The try-it page: strict about where it gets things from, and used in a real browser."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.mesh.rpc import eventually
from tests.support.chromium import browsing
from tests.support.gateway import CLIENT_ID, CLIENT_SECRET, WRITE_KEY, RunningGateway, running_gateway
from tests.support.requirements import require

ANSWERED = """
/^\\d/.test(document.querySelector('.status')?.textContent ?? '') && document.querySelector('.answer pre').textContent
"""


@pytest.fixture
async def gateway() -> AsyncIterator[RunningGateway]:
    """A whole gateway."""
    async with running_gateway() as running:
        yield running


async def test_the_page_asks_nobody_else(gateway: RunningGateway) -> None:
    """Its policy allows its own origin only; it names no other host; frames and sniffing are refused."""
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        for path, kind in (
            ("/", "text/html"),
            ("/docs", "text/html"),
            ("/docs/page.js", "text/javascript"),
            ("/docs/page.css", "text/css"),
        ):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith(kind)
            assert answer.headers["x-content-type-options"] == "nosniff"
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert "://" not in answer.text.replace("http://www.w3.org", "")
            assert "innerHTML" not in answer.text
            assert " style=" not in answer.text
            assert " onclick=" not in answer.text


async def test_a_person_gets_a_token_and_uses_it(gateway: RunningGateway) -> None:
    """Pick a call, fill in its body, send, read the answer; with the token from it, call what needs one."""
    async with browsing(require("chromium"), f"{gateway.url}/docs#IdentityService_IssueToken") as page:
        await page.until("document.querySelectorAll('nav button').length > 20")
        body = json.loads(await page.until("document.querySelector('textarea')?.value"))
        assert set(body) == {"clientId", "clientSecret"}, "what is required is filled in"
        asked = json.dumps({**body, "clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET})
        await page.run(f"document.querySelector('textarea').value = {json.dumps(asked)}")
        await page.run("document.querySelector('form').requestSubmit()")
        token = json.loads(await page.until(ANSWERED))["accessToken"]

        await page.run("document.querySelector('button[data-id=ConsentService_ListConsentHistory]').click()")
        assert "clew.consents.read" in await page.run("document.querySelector('.send').textContent")
        await page.run(f"document.getElementById('bearer').value = {json.dumps(token)}")
        fill = "document.querySelector('input[name={}]').value = {}"
        for name, value in (("workspace", "main"), ("subject", "a/b ü"), ("pageSize", "5")):
            await page.run(fill.format(name, json.dumps(value)))
        await page.run("document.querySelector('form').requestSubmit()")
        assert json.loads(await page.until(ANSWERED)) == {"records": [], "nextPageToken": ""}
        shown = await page.run("document.querySelector('.answer').textContent")
        assert "subjects/a%2Fb%20%C3%BC/consents?pageSize=5" in shown
        assert token not in shown, "the command for elsewhere names the token and does not show it"
        assert page.problems == []


async def test_a_person_watches_events(gateway: RunningGateway) -> None:
    """The live view is shown as it comes, until somebody stops it; the command for elsewhere does not buffer."""
    async with browsing(require("chromium"), f"{gateway.url}/docs#EdgeDebugService_TailEvents") as page:
        await page.until("document.querySelector('textarea')?.value")
        await page.run(f"document.getElementById('bearer').value = {json.dumps(gateway.token('clew.debug.read'))}")
        await page.run("document.querySelector('form').requestSubmit()")
        await eventually(lambda: gateway.gateway.tap.open)
        async with httpx.AsyncClient(base_url=gateway.url) as client:
            body = {"event": "Looked", "userId": "u", "messageId": "shown-in-the-page"}
            assert (await client.post("/v1/track", json=body, headers={"X-Write-Key": WRITE_KEY})).status_code == 200
        await page.until("document.querySelector('.answer pre').textContent.includes('shown-in-the-page')")
        assert "curl -N -X POST" in await page.run("document.querySelector('.answer').textContent")
        await page.run("document.querySelector('.stop').click()")
        await eventually(lambda: not gateway.gateway.tap.open)
        assert page.problems == []


async def test_a_person_changes_a_source(gateway: RunningGateway) -> None:
    """The example of a body holds what can be set, and values that are taken."""
    async with browsing(require("chromium"), f"{gateway.url}/docs#SourceService_UpdateSource") as page:
        body = json.loads(await page.until("document.querySelector('textarea')?.value"))
        assert set(body) == {"purposes", "limits", "allowedOrigins", "disabled"}
        assert body["limits"]["eventsPerSecond"] > 0


async def test_a_person_sends_an_event(gateway: RunningGateway) -> None:
    """The Segment paths are there too, with an example that is taken as it stands."""
    async with browsing(require("chromium"), f"{gateway.url}/docs#collect_track") as page:
        await page.until("document.querySelector('textarea')?.value")
        await page.run(f"document.getElementById('write-key').value = {json.dumps(WRITE_KEY)}")
        await page.run("document.querySelector('form').requestSubmit()")
        assert json.loads(await page.until(ANSWERED))["accepted"] == 1
        assert page.problems == []
    assert len(gateway.bus.read("clew.events.v1")) == 1

"""A headless chromium that a test drives: the DevTools protocol over a pipe, without a library in between."""

import asyncio
import itertools
import json
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

# Headless, and without anything that a browser asks the internet for on its own.
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)  # fmt: skip
_SECONDS = 30
_BIGGEST = 64 * 1024 * 1024


class Page:
    """One page of the browser."""

    def __init__(self, reader: asyncio.StreamReader, write_fd: int) -> None:
        self._reader = reader
        self._write_fd = write_fd
        self._numbers = itertools.count(1)
        self._session = ""
        self.problems: list[str] = []
        """What the page logged as an error, or threw: a refusal by its content security policy is among it."""

    async def open(self, url: str) -> None:
        """Open a page and listen to it."""
        target = (await self._call("Target.createTarget", {"url": "about:blank"}))["targetId"]
        self._session = (await self._call("Target.attachToTarget", {"targetId": target, "flatten": True}))["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self._call(f"{domain}.enable", {})
        await self._call("Page.navigate", {"url": url})

    async def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        asked = {"expression": script, "awaitPromise": True, "returnByValue": True}
        answer = await self._call("Runtime.evaluate", asked)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    async def until(self, script: str) -> Any:
        """Wait until an expression is true in the page; its value."""
        async with asyncio.timeout(_SECONDS):
            while not (value := await self.run(script)):  # noqa: ASYNC110 - the page changes by itself
                await asyncio.sleep(0.02)
        return value

    async def _call(self, method: str, parameters: dict[str, Any]) -> Any:
        number = next(self._numbers)
        call = {"id": number, "method": method, "params": parameters}
        if self._session:
            call["sessionId"] = self._session
        os.write(self._write_fd, json.dumps(call).encode() + b"\0")
        while True:
            message = json.loads((await asyncio.wait_for(self._reader.readuntil(b"\0"), _SECONDS))[:-1])
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        match event.get("method"):
            case "Log.entryAdded" if event["params"]["entry"]["level"] == "error":
                self.problems.append(event["params"]["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.problems.append(str(event["params"]["exceptionDetails"]))
            case _:
                pass


@asynccontextmanager
async def browsing(chromium: Path, url: str) -> AsyncIterator[Page]:
    """A page in a browser of its own, with an empty profile; the browser ends with the test."""
    to_browser, from_us = os.pipe()
    to_us, from_browser = os.pipe()
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        # The browser reads its commands on descriptor 3 and answers on 4.
        command = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        arguments = ("-c", command, str(chromium), *_FLAGS, f"--user-data-dir={profile}")
        process = await asyncio.create_subprocess_exec(
            "/bin/bash",
            *arguments,
            pass_fds=(to_browser, from_browser),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        reader = asyncio.StreamReader(limit=_BIGGEST)
        pipe = os.fdopen(to_us, "rb")
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            page = Page(reader, from_us)
            await page.open(url)
            yield page
        finally:
            process.terminate()
            await process.wait()
            transport.close()
            os.close(from_us)

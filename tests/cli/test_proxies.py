"""A proxy in the environment, as many companies' machines have one."""

import os
import socket
import subprocess
import sys
from contextlib import closing

import pytest

from cli.proxies import spare_this_machine

# What asks a server of this machine by gRPC and by HTTP, after or without the preparation.
_PROGRAM = """
import asyncio, os, sys, urllib.request
from cli.health import is_serving
from cli.proxies import spare_this_machine
if sys.argv[1] == "spared":
    spare_this_machine(os.environ)
asyncio.run(is_serving("127.0.0.1:1"))
try:
    urllib.request.urlopen("http://localhost:1", timeout=2)
except OSError:
    pass
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "127.0.0.1,::1,localhost"),
        ({"NO_PROXY": "corp.example"}, "corp.example,127.0.0.1,::1,localhost"),
        ({"no_proxy": "localhost, corp.example", "NO_PROXY": "other"}, "localhost,corp.example,127.0.0.1,::1"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_this_machine_is_added_to_the_exceptions(before: dict[str, str], after: str) -> None:
    """What the user excepted stays; twice changes nothing."""
    environ = dict(before)
    for _ in range(2):
        spare_this_machine(environ)
        assert environ["no_proxy"] == after
    assert "127.0.0.1" in environ["no_grpc_proxy"]


@pytest.mark.parametrize(("preparation", "asked"), [("spared", False), ("as it is", True)])
def test_libraries_heed_it(preparation: str, asked: bool) -> None:
    """GRPC and urllib ask the proxy for this machine's addresses, unless they are told."""
    with closing(socket.create_server(("127.0.0.1", 0))) as proxy:
        proxy.setblocking(False)
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        known = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        environ = {**known, "http_proxy": url, "grpc_proxy": url}
        command = [sys.executable, "-c", _PROGRAM, preparation]
        subprocess.run(command, env=environ, check=True, timeout=60, capture_output=True)
        if asked:
            proxy.accept()[0].close()
        else:
            with pytest.raises(BlockingIOError):
                proxy.accept()

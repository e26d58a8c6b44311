"""The client of a registry that is not ours, with our own read-only one in that part: what it asks, how it fails.

A registry of somebody else's, written to, is in `tests/cli/test_schemas.py`.
"""

import base64
import importlib.resources
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from mesh.registry import SchemaRegistry
from mesh.registry.outside import OutsideRegistry, OutsideRegistryError, OutsideRegistryUnreachable, RegistrySettings
from mesh.registry.publishing import Publishing
from mesh.settings import SettingsError, read_settings
from tests.mesh.registry_server import RegistryServer, serving

EVENTS = "clew.events.v1-value"


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    """The registry over HTTP."""
    with serving(SchemaRegistry.load(importlib.resources.files("clew") / "registry.json")) as running:
        yield running


def test_a_registry_that_has_everything_is_left_alone(server: RegistryServer) -> None:
    """Nothing is lacking, nothing is written, and the ids are the registry's."""
    table = server.registry.table
    publishing = Publishing(table, OutsideRegistry(RegistrySettings(server.url)))

    assert all(step.registered for step in publishing.plan())
    assert list(publishing.apply()) == []
    assert publishing.published() == table.messages
    assert not any("/versions" in request for request in server.requests if request.startswith("POST"))


@pytest.mark.parametrize(
    ("credentials", "token", "sent"),
    [
        ("", "", None),
        ("me:se:cret", "", "Basic " + base64.b64encode(b"me:se:cret").decode()),
        ("", "a.b.c", "Bearer a.b.c"),
        ("me:secret", "a.b.c", "Bearer a.b.c"),
    ],
)
def test_it_logs_in_as_it_is_told(server: RegistryServer, credentials: str, token: str, sent: str | None) -> None:
    """By basic credentials or by a token, with every request; a token wins."""
    OutsideRegistry(RegistrySettings(server.url, credentials, token)).newest(EVENTS)
    assert server.authorizations == {sent}


def test_a_refused_registration_is_told(server: RegistryServer) -> None:
    """With what the registry said."""
    table = server.registry.table
    outside = OutsideRegistry(RegistrySettings(server.url))
    with pytest.raises(OutsideRegistryError, match=r"405.*read-only") as refused:
        outside.register(EVENTS, table.version(EVENTS, "latest")[1], ())
    assert not isinstance(refused.value, OutsideRegistryUnreachable)


def test_what_is_no_registry_is_told(server: RegistryServer) -> None:
    """Nobody listens; something else answers. A subject that is not there is no error."""
    with pytest.raises(OutsideRegistryUnreachable, match="does not answer as a registry"):
        OutsideRegistry(RegistrySettings("http://127.0.0.1:9")).newest(EVENTS)
    with pytest.raises(OutsideRegistryError, match="404"):
        OutsideRegistry(RegistrySettings(f"{server.url}/elsewhere")).newest(EVENTS)
    assert OutsideRegistry(RegistrySettings(f"{server.url}/")).newest("none") is None


def test_only_the_configured_address_is_asked(server: RegistryServer) -> None:
    """A redirect is refused: it would take the credentials to whatever address it names."""
    with answering(b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % server.url.encode()) as url:
        outside = OutsideRegistry(RegistrySettings(url, "me:secret"))
        with pytest.raises(OutsideRegistryError, match="was answered 302"):
            outside.newest(EVENTS)
    assert server.requests == []


@pytest.mark.parametrize(
    "answer",
    [
        b"no HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{"schema": "',
        b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"schema": "' + b"x" * (17 << 20) + b'"}',
    ],
    ids=["no HTTP", "something else", "cut off", "without end"],
)
def test_an_answer_that_is_none_is_told(answer: bytes) -> None:
    """Bytes that mean nothing or something else, too few of them, and more than a registry has to say."""
    with answering(answer) as url, pytest.raises(OutsideRegistryError, match="does not answer as a registry"):
        OutsideRegistry(RegistrySettings(url)).newest(EVENTS)


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """The address of a server that gives one connection this answer, whatever it is asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_once() -> None:
            connection, _ = listener.accept()
            # Who has read enough hangs up.
            with connection, suppress(OSError):
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=answer_once)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"CLEW_SCHEMA_REGISTRY": "registry:8081"}, "is no address like"),
        ({"CLEW_SCHEMA_REGISTRY": "file:///etc/passwd"}, "is no address like"),
        ({"CLEW_SCHEMA_REGISTRY": "http://a:s3cret@b"}, "CLEW_SCHEMA_REGISTRY_AUTH"),
        ({"CLEW_SCHEMA_REGISTRY_AUTH": "s3cret"}, "is no USER:PASSWORD"),
    ],
)
def test_settings_that_cannot_be_used(variables: dict[str, str], words: str) -> None:
    """They are told by their variables' names, secrets never."""
    with pytest.raises(SettingsError) as refused:
        read_settings(RegistrySettings, variables)
    assert words in str(refused.value)
    assert "s3cret" not in str(refused.value)

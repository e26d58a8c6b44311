"""Options that many commands have."""

from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[
    Path,
    typer.Option("--data-dir", "-d", envvar="CLEW_DATA_DIR", help="Where the mesh keeps its data, logs and spans."),
]
DEFAULT_DATA_DIR = Path(".clew")


def checked_registry(url: str) -> str:
    """A registry's root, http:// or https:// with a host; what is none is refused."""
    # Loaded when there is one to look at: this module is loaded by `clew --help`.
    from urllib.parse import urlsplit  # noqa: PLC0415

    try:
        parts = urlsplit(url)
        fine = not url or (parts.scheme in {"http", "https"} and bool(parts.hostname))
    except ValueError:
        fine = False
    if not fine:
        raise typer.BadParameter(f"{url!r} is no address like https://registry.example")
    return url


def checked_addresses(addresses: str) -> str:
    """Kafka's addresses, HOST:PORT with commas; what is none is refused."""
    for address in filter(None, addresses.split(",")):
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise typer.BadParameter(f"{address!r} is no HOST:PORT")
    return addresses

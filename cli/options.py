"""Options that many commands have."""

from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[
    Path,
    typer.Option("--data-dir", "-d", envvar="CLEW_DATA_DIR", help="Where the mesh keeps its data, logs and spans."),
]
DEFAULT_DATA_DIR = Path(".clew")


def checked_addresses(addresses: str) -> str:
    """Kafka's addresses, HOST:PORT with commas; what is none is refused."""
    for address in filter(None, addresses.split(",")):
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise typer.BadParameter(f"{address!r} is no HOST:PORT")
    return addresses

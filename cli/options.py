"""Options that many commands have."""

from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[
    Path,
    typer.Option("--data-dir", "-d", envvar="CLEW_DATA_DIR", help="Where the mesh keeps its data, logs and spans."),
]
DEFAULT_DATA_DIR = Path(".clew")

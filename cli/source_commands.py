"""The options and help of `clew source`; what the commands do stands in `cli/sources.py`."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_DATA_DIR, DataDir

if TYPE_CHECKING:
    from cli.sources import Values

app = typer.Typer(
    help="Who may send events: sources, their limits, their write keys.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
keys = typer.Typer(
    help="Write keys: create, rotate with an overlap, revoke at once.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(keys, name="key")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The source's name.", show_default=False)]
Key = Annotated[str, typer.Argument(metavar="KEY", help="A key's id, or what it begins with.", show_default=False)]
Workspace = Annotated[str, typer.Option("--workspace", "-w", help="Its workspace.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, by the contract's field names.")]
Purposes = Annotated[
    list[str] | None,
    typer.Option("--purpose", help="What it collects for: essential, analytics, ... Repeat for more; without: all."),
]
Rate = Annotated[
    float | None, typer.Option("--rate", min=0, max=1_000_000, help="Events a second in the long run; 0: the default.")
]
Burst = Annotated[
    int | None, typer.Option("--burst", min=1, max=1_000_000, help="Events at once; without: a second's worth.")
]
Origins = Annotated[
    list[str] | None,
    typer.Option("--origin", help="A website whose pages may send: https://shop.example, https://*.shop.example, *."),
]
NoPages = Annotated[bool, typer.Option("--no-pages", help="No website's pages may send: for servers only.")]

_MAIN = "main"


@app.command()
def create(
    name: Name,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    workspace: Workspace = _MAIN,
    purpose: Purposes = None,
    rate: Rate = None,
    burst: Burst = None,
    origin: Origins = None,
    no_pages: NoPages = False,
    no_key: Annotated[bool, typer.Option("--no-key", help="Make no key for it.")] = False,
    as_json: Json = False,
) -> None:
    """Make a source and a key for it, which is shown this once.

    Example: clew source create shop-web --origin https://shop.example --rate 500
    """
    from cli.sources import Place
    from cli.sources import create as run

    place = Place(data_dir, workspace, name, as_json)
    raise typer.Exit(run(place, _values(purpose, rate, burst, origin, no_pages=no_pages), with_key=not no_key))


@app.command("list")
def list_sources(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    workspace: Annotated[str, typer.Option("--workspace", "-w", help="Only this workspace.")] = "",
    as_json: Json = False,
) -> None:
    """Show all sources."""
    from cli.sources import Place, list_all

    raise typer.Exit(list_all(Place(data_dir, workspace, "", as_json)))


@app.command()
def show(name: Name, data_dir: DataDir = DEFAULT_DATA_DIR, workspace: Workspace = _MAIN, as_json: Json = False) -> None:
    """Show a source and its keys, with when each was used last."""
    from cli.sources import Place
    from cli.sources import show as run

    raise typer.Exit(run(Place(data_dir, workspace, name, as_json)))


@app.command()
def update(
    name: Name,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    workspace: Workspace = _MAIN,
    purpose: Purposes = None,
    rate: Rate = None,
    burst: Burst = None,
    origin: Origins = None,
    no_pages: NoPages = False,
    disable: Annotated[
        bool | None, typer.Option("--disable/--enable", help="Refuse its keys, or take them again.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change what the options name, in force at once.

    Example: clew source update shop-web --origin https://shop.example --origin https://m.shop.example
    """
    from cli.sources import Place
    from cli.sources import update as run

    values = _values(purpose, rate, burst, origin, no_pages=no_pages, disabled=disable)
    raise typer.Exit(run(Place(data_dir, workspace, name, as_json), values))


@app.command()
def delete(
    name: Name,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    workspace: Workspace = _MAIN,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Remove a source; its keys are refused at once.

    They cannot be had back. Its history stays.
    """
    from cli.sources import Place
    from cli.sources import delete as run

    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("nobody can be asked here: say --yes", param_hint="--yes")
        typer.confirm(f"Delete {workspace}/{name} and its keys?", abort=True)
    raise typer.Exit(run(Place(data_dir, workspace, name, as_json)))


@app.command()
def history(
    name: Name,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    workspace: Workspace = _MAIN,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 50,
    as_json: Json = False,
) -> None:
    """Show what was done to a source, by whom and when.

    The newest comes first.
    """
    from cli.sources import Place
    from cli.sources import history as run

    raise typer.Exit(run(Place(data_dir, workspace, name, as_json), limit))


@keys.command("create")
def create_key(
    name: Name,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    workspace: Workspace = _MAIN,
    lifetime: Annotated[str, typer.Option(help="How long it holds: 90s, 15m, 24h, 7d; without: until revoked.")] = "",
    as_json: Json = False,
) -> None:
    """Make another key, which is shown this once."""
    from cli.sources import Place
    from cli.sources import create_key as run

    raise typer.Exit(run(Place(data_dir, workspace, name, as_json), lifetime))


@keys.command("rotate")
def rotate_key(
    name: Name,
    key: Key,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    workspace: Workspace = _MAIN,
    overlap: Annotated[str, typer.Option(help="How long the old key goes on to hold: 0s ends it at once.")] = "24h",
    as_json: Json = False,
) -> None:
    """Make a key in place of another one.

    Example: clew source key rotate shop-web wk_8fJq2Lz --overlap 7d
    """
    from cli.sources import Place
    from cli.sources import rotate_key as run

    raise typer.Exit(run(Place(data_dir, workspace, name, as_json), key, overlap))


@keys.command("revoke")
def revoke_key(
    name: Name, key: Key, data_dir: DataDir = DEFAULT_DATA_DIR, workspace: Workspace = _MAIN, as_json: Json = False
) -> None:
    """End a key: the next request with it is refused."""
    from cli.sources import Place
    from cli.sources import revoke_key as run

    raise typer.Exit(run(Place(data_dir, workspace, name, as_json), key))


def _values(
    purposes: list[str] | None,
    rate: float | None,
    burst: int | None,
    origins: list[str] | None,
    *,
    no_pages: bool,
    disabled: bool | None = None,
) -> "Values":
    from cli.sources import Values

    if burst is not None and not rate:
        raise typer.BadParameter("goes with --rate", param_hint="--burst")
    if no_pages and origins:
        raise typer.BadParameter("--origin and --no-pages contradict each other", param_hint="--no-pages")
    allowed = () if no_pages else tuple(origins) if origins else None
    return Values(tuple(purposes) if purposes else None, rate, burst, allowed, disabled)

"""The `clew` command: its options and help.

Each command's work stands in a module of its own, loaded only when it is called.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_DATA_DIR, DataDir, checked_addresses
from cli.output import plain, written_output
from cli.proxies import spare_this_machine
from cli.schemas_commands import app as schemas
from cli.source_commands import app as sources
from cli.topic.commands import app as topic
from cli.topics_commands import app as topics

app = typer.Typer(
    name="clew",
    help="An identity-first backbone for customer data. Start with `clew demo`, or with `clew up` and your own SDK.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain help: loading what draws boxes takes as long as all the rest.
    rich_markup_mode=None,
)


def _say_version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import version

    typer.echo(f"clew {version('clew')}")
    raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Print the version.")
    ] = False,
) -> None:
    """What goes before the commands."""


app.add_typer(sources, name="source")
app.add_typer(topics, name="topics")
app.add_typer(schemas, name="schemas")
app.add_typer(topic, name="topic")


Kafka = Annotated[
    str,
    typer.Option(
        metavar="HOST:PORT",
        help="A real Kafka; without it an embedded broker, in memory only.",
        callback=checked_addresses,
    ),
]


@app.command()
def up(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the HTTP edge; 0 takes a free one.")] = 8080,
    http_host: Annotated[
        str, typer.Option(help="Address of the HTTP edge; 0.0.0.0 takes events from other machines.")
    ] = "127.0.0.1",
    kafka: Kafka = "",
    database: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="CLEW_DATABASE",
            help="A PostgreSQL that gateways share, postgresql://...; without it SQLite in the data directory.",
        ),
    ] = "",
    spool: Annotated[
        int,
        typer.Option(
            metavar="MIB",
            min=0,
            envvar="CLEW_SPOOL_MIB",
            help="MiB of events to keep on disk, answered 200, while Kafka or a service is down; 0: answer 503.",
        ),
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the endpoints as one line of JSON.")] = False,
) -> None:
    """Start the mesh and keep it running until Ctrl-C.

    Writes DATA_DIR/endpoints.json once everything serves: addresses, the write key for SDKs and an admin token.
    """
    from cli.running import MeshOptions
    from cli.up import up as run

    raise typer.Exit(run(MeshOptions(data_dir, http_port, http_host, kafka, database, spool), as_json=as_json))


@app.command()
def trace(
    trace_id: Annotated[str, typer.Argument(metavar="ID|last", help="A trace id (32 hex digits), or `last`.")] = "last",
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show one request's waterfall across all processes.

    It comes from the local span store.
    """
    import re

    from cli.trace import trace as run

    if trace_id != "last" and not re.fullmatch("[0-9a-fA-F]{32}", trace_id):
        raise typer.BadParameter(f'{trace_id!r} is no trace id (32 hex digits), nor "last"', param_hint="ID")
    raise typer.Exit(run(trace_id, data_dir))


@app.command()
def tail(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    type_: Annotated[str, typer.Option("--type", help="Only this call: track, identify, page, ...")] = "",
    user: Annotated[str, typer.Option(help="Only events of this user id.")] = "",
    anonymous: Annotated[str, typer.Option(help="Only events of this anonymous id.")] = "",
    profile: Annotated[str, typer.Option(help="Only events of this profile id, and its merges.")] = "",
    source: Annotated[str, typer.Option(help="Only events of this source.")] = "",
    message: Annotated[str, typer.Option(help="Only the event with this message id.")] = "",
    failed: Annotated[bool, typer.Option("--failed", help="Only failed events.")] = False,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Begin with the oldest record.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="Stop after so many records; 0 never stops.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, with key and headers.")] = False,
    edge: Annotated[
        bool, typer.Option("--edge", help="At the gateway: every stage's verdict and the trace; personal data hidden.")
    ] = False,
    verdict: Annotated[
        str, typer.Option(help="With --edge, only: accepted, duplicate, rejected, filtered, deferred, unanswered.")
    ] = "",
) -> None:
    """Show decoded events as they come, good and failed.

    They come from Kafka, or with --edge from the gateway while it handles them.
    """
    if edge:
        if type_ or anonymous or profile or failed or from_beginning:
            raise typer.BadParameter(
                "goes with --source, --message, --user, --verdict and --limit", param_hint="--edge"
            )
        from cli.tail_edge import VERDICTS, EdgeFilter, tail_edge

        if verdict and verdict not in VERDICTS:
            raise typer.BadParameter(f"{verdict!r} is none of {', '.join(VERDICTS)}", param_hint="--verdict")
        raise typer.Exit(
            tail_edge(data_dir, EdgeFilter(source, message, user, verdict), limit=limit, json_lines=as_json)
        )
    if verdict:
        raise typer.BadParameter("goes with --edge", param_hint="--verdict")
    from cli.records import EVENT_TYPES
    from cli.tail import TailFilter
    from cli.tail import tail as run

    if type_ and type_ not in EVENT_TYPES:
        raise typer.BadParameter(f"{type_!r} is none of {', '.join(EVENT_TYPES)}", param_hint="--type")
    wanted = TailFilter(type_, user, anonymous, profile, source, message, failed_only=failed)
    raise typer.Exit(run(data_dir, wanted, limit=limit, from_beginning=from_beginning, json_lines=as_json))


@app.command()
def send(
    type_: Annotated[
        str, typer.Argument(metavar="TYPE", help="track, identify, page, screen, group or alias; without: track.")
    ] = "",
    event: Annotated[str, typer.Argument(metavar="[NAME]", help="Event or page name, group id, or previous id.")] = "",
    data_dir: DataDir = DEFAULT_DATA_DIR,
    user: Annotated[str, typer.Option(help="User id.")] = "",
    anonymous: Annotated[str, typer.Option(help="Anonymous id; a random one without --user.")] = "",
    properties: Annotated[str, typer.Option(help="Properties or traits, a JSON object.")] = "",
    file: Annotated[
        Path | None, typer.Option(help="Send a file: an event, a batch, or an event a line; - is stdin.")
    ] = None,
    write_key: Annotated[str, typer.Option(help="Another source's write key.")] = "",
    token: Annotated[str, typer.Option(help="A bearer token that proves the user id.")] = "",
) -> None:
    """Send one event, or a file of events, and print the verdicts.

    Example: clew send track "Order Completed" --user u-1 --properties '{"total": 12.5}'
    """
    if file and (type_ or event or user or anonymous or properties):
        raise typer.BadParameter(
            "events of a file say themselves what they are; TYPE, NAME, --user, --anonymous and --properties do not go "
            "with it",
            param_hint="--file",
        )
    import json

    from cli.send import BadEvent, Sending, read_file
    from cli.send import send as run

    try:
        body = (
            read_file(file)
            if file
            else json.dumps(Sending(type_ or "track", event, user, anonymous, properties).payload()).encode()
        )
    except BadEvent as error:
        typer.echo(f"clew send: {error}", err=True)
        raise typer.Exit(2) from error
    raise typer.Exit(run(data_dir, body, write_key=write_key, token=token))


@app.command()
def ledger(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    since: Annotated[str, typer.Option(help="How far back, like 15m, 6h or 2d; all that is kept without it.")] = "",
    source: Annotated[str, typer.Option(help="Only this source.")] = "",
    minutes: Annotated[bool, typer.Option("--minutes", help="A row for each minute.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what became of every event, and whether it adds up.

    Exit status 1 when it does not.
    """
    from cli.ledger import BadSpan, parse_span
    from cli.ledger import ledger as run

    try:
        seconds = parse_span(since)
    except BadSpan as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error
    raise typer.Exit(run(data_dir, seconds, source=source, minutes=minutes, as_json=as_json))


@app.command()
def doctor(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Look at what is installed, reachable and configured.

    Says what to do about what is not.
    """
    from cli.doctor import doctor as run

    raise typer.Exit(run(data_dir))


@app.command()
def demo(
    kafka: Kafka = "",
    keep: Annotated[bool, typer.Option("--keep", help="Keep the demo's data directory and say where it is.")] = False,
) -> None:
    """Drive a new mesh with unmodified SDKs and show what came out."""
    from cli.demo import demo as run

    raise typer.Exit(run(kafka, keep=keep))


def main() -> None:
    """Entry point."""
    spare_this_machine(os.environ)
    if plain():
        # By NO_COLOR alone rich leaves out colours and keeps bold: whatever makes a console of its own is told here.
        os.environ["TTY_COMPATIBLE"] = "0"
    with written_output():
        app()

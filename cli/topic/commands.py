"""The options and help of `clew topic`; what the commands do stands beside this file."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.options import DEFAULT_DATA_DIR, DataDir, checked_registry

if TYPE_CHECKING:
    from cli.topic.access import Access
    from cli.topic.fixes import Fix
    from cli.topic.selection import Asked, Selection

app = typer.Typer(
    help="Look into topics and repair: read records, copy them, send failed events again.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_MOST_NOTE: Final = 500

Topic = Annotated[
    str,
    typer.Argument(metavar="TOPIC", help="events, failed, profiles, audit, or a full name.", show_default=False),
]
From = Annotated[
    str,
    typer.Option("--from", metavar="TIME", help="Records from this time on: -1h, -1h30m, -2d, or ISO 8601 (UTC)."),
]
Until = Annotated[
    str, typer.Option("--until", metavar="TIME", help="Records before this time; the same forms, and now.")
]
Offsets = Annotated[
    list[str] | None,
    typer.Option(
        "--offsets", "-o", metavar="RANGE", help="PARTITION:FIRST-LAST, both included: 3, 3:17, 3:10-20, 3:10-. Repeat."
    ),
]
Key = Annotated[list[str] | None, typer.Option("--key", "-k", help="Only records with this key. Repeat for more.")]
MessageId = Annotated[
    list[str] | None, typer.Option("--message-id", "--message", "-m", help="Only this message. Repeat for more.")
]
Reason = Annotated[
    list[str] | None,
    typer.Option("--reason", "-r", help="Failed events only: missing_identifier, invalid_field, ... Repeat for more."),
]
Source = Annotated[str, typer.Option("--source", "-s", help="Only events of this source.")]
Workspace = Annotated[str, typer.Option("--workspace", "-w", help="Only events of this workspace.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=0, help="The first so many records, by time; 0: all.")]
Kafka = Annotated[
    str,
    typer.Option(
        "--kafka", metavar="HOST:PORT", help="Another Kafka than that of the mesh that runs from the data dir."
    ),
]
Properties = Annotated[
    Path | None,
    typer.Option(
        "--kafka-properties",
        metavar="FILE",
        envvar="CLEW_KAFKA_PROPERTIES_FILE",
        help="librdkafka properties, one NAME=VALUE a line: TLS, SASL and the like.",
    ),
]
Registry = Annotated[
    str,
    typer.Option(
        "--registry",
        metavar="URL",
        help="A Confluent-compatible schema registry, asked for every id; where it does not know one, the name in the "
        "record's header counts. Log in by CLEW_SCHEMA_REGISTRY_AUTH or _TOKEN. Without: clew's own schemas.",
        callback=checked_registry,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="A line of JSON for each record.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it; without, only say what would be done.")]


def _short_note(text: str) -> str:
    if len(text) > _MOST_NOTE:
        raise typer.BadParameter(f"has more than {_MOST_NOTE} characters")
    return text


# Of `redrive` alone.
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=JSON", help="Set a field: userId='\"u-1\"'. Repeat.")
]
Unset = Annotated[
    list[str] | None, typer.Option("--unset", metavar="PATH", help="Remove a field: properties.blob. Repeat.")
]
FixCommand = Annotated[
    str, typer.Option("--fix", metavar="COMMAND", help="A command that gets each event on stdin and prints it mended.")
]
Edit = Annotated[bool, typer.Option("--edit", help="Mend the one event that is meant in $EDITOR.")]
Note = Annotated[str, typer.Option("--note", help="Why, for the audit; no personal data.", callback=_short_note)]
OtherGateway = Annotated[
    str, typer.Option("--gateway", metavar="HOST:PORT", help="Another gateway's gRPC address; goes with --kafka.")
]
Token = Annotated[
    str, typer.Option("--token", envvar="CLEW_TOKEN", help="A token with clew.failed.write; CLEW_TOKEN is safer.")
]


@app.command()
def read(
    topic: Topic,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    since: From = "",
    until: Until = "",
    offsets: Offsets = None,
    key: Key = None,
    message_id: MessageId = None,
    reason: Reason = None,
    source: Source = "",
    workspace: Workspace = "",
    limit: Limit = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    no_headers: Annotated[
        bool, typer.Option("--no-headers", help="Do not show headers (JSON always has them).")
    ] = False,
    kafka: Kafka = "",
    kafka_properties: Properties = None,
    registry: Registry = "",
    as_json: Json = False,
) -> None:
    """Show records of a topic, decoded by the schema id that stands in each, the oldest first.

    It ends where the topic ended when it began, unless told to --follow. Times are those of the records.

    Examples:
      clew topic read failed --from -1h --reason missing_identifier

      clew topic read events --message-id m-17 --json | jq .value.event

      clew topic read events --offsets 2:100-199 --kafka broker:9092
    """
    from cli.topic.read import read as run
    from cli.topic.selection import Asked

    asked = Asked(
        topic, since, until, offsets or (), key or (), message_id or (), reason or (), workspace, source, limit
    )
    access = _access(data_dir, kafka, kafka_properties, registry)
    status = run(access, _selection(asked), follow=follow, json_lines=as_json, headers=not no_headers)
    raise typer.Exit(status)


@app.command()
def replay(
    topic: Topic,
    to: Annotated[str, typer.Option("--to", metavar="TOPIC", help="Where copies go; never a topic of the gateway's.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    since: From = "",
    until: Until = "",
    offsets: Offsets = None,
    key: Key = None,
    message_id: MessageId = None,
    reason: Reason = None,
    source: Source = "",
    workspace: Workspace = "",
    limit: Limit = 0,
    yes: Yes = False,
    again: Annotated[bool, typer.Option("--again", help="Copy also what stands there already.")] = False,
    create: Annotated[bool, typer.Option("--create", help="Make the topic, with as many partitions.")] = False,
    by: Annotated[str, typer.Option("--by", help="Who copies, for the mark; without: the name of your account.")] = "",
    kafka: Kafka = "",
    kafka_properties: Properties = None,
    registry: Registry = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as one line of JSON.")] = False,
) -> None:
    """Copy records to another topic, byte for byte: key, value, headers.

    Each copy is marked by headers: clew-replay-from (its record's place and time), clew-replay-time, clew-replay-by.

    Without --yes nothing is written. Running the same again copies only what is missing: it looks for the marks.

    Example: clew topic replay events --from -2h --to my.backfill --create --yes
    """
    from cli.topic.replay import Copying
    from cli.topic.replay import replay as run
    from cli.topic.selection import Asked, BadSelection, topic_name

    asked = Asked(
        topic, since, until, offsets or (), key or (), message_id or (), reason or (), workspace, source, limit
    )
    try:
        target = topic_name(to, "--to")
    except BadSelection as error:
        raise _usage(error) from error
    copying = Copying(_selection(asked), target, do=yes, again=again, create=create, by=by)
    raise typer.Exit(run(_access(data_dir, kafka, kafka_properties, registry), copying, json_lines=as_json))


@app.command()
def redrive(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    since: From = "",
    until: Until = "",
    offsets: Offsets = None,
    key: Key = None,
    message_id: MessageId = None,
    reason: Reason = None,
    source: Source = "",
    workspace: Workspace = "",
    limit: Limit = 10_000,
    set_: Set = None,
    unset: Unset = None,
    fix: FixCommand = "",
    edit: Edit = False,
    yes: Yes = False,
    again: Annotated[bool, typer.Option("--again", help="Also what was redriven before.")] = False,
    note: Note = "",
    gateway: OtherGateway = "",
    token: Token = "",
    kafka: Kafka = "",
    kafka_properties: Properties = None,
    registry: Registry = "",
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each event.")] = False,
) -> None:
    """Send failed events through the gateway again, as they are or mended.

    First the gateway decodes each as its edge would, and what still fails is shown; without --yes that is all.

    Events keep their message ids and the client's times; identity, consent and duplicates are decided anew.

    Who sent which, and the paths that were changed, stand on clew.audit.v1; what was redriven is left alone then.

    Exit status 1 when an event that is meant still fails, or could not be sent.

    Examples:
      clew topic redrive --reason missing_identifier --from -2h --set anonymousId='"unknown"'

      clew topic redrive --message-id m-17 --edit --yes

      clew topic redrive --source shop --fix 'jq -c ".userId |= tostring"' --yes --note OPS-7
    """
    from cli.topic import redrive as work
    from cli.topic.selection import Asked

    asked = Asked(
        "failed", since, until, offsets or (), key or (), message_id or (), reason or (), workspace, source, limit
    )
    mend = _fix(set_ or [], unset or [], fix, edit=edit)
    how = work.Redriving(
        _selection(asked), mend, do=yes, again=again, one=edit, note=note, gateway=gateway, token=token
    )
    raise typer.Exit(work.redrive(_access(data_dir, kafka, kafka_properties, registry), how, json_lines=as_json))


def _access(data_dir: Path, kafka: str, properties: Path | None, registry: str) -> "Access":
    from cli.topic.access import Access

    for address in filter(None, kafka.split(",")):
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise typer.BadParameter(f"{address!r} is no HOST:PORT", param_hint="--kafka")
    return Access(data_dir, kafka, properties, registry)


def _selection(asked: "Asked") -> "Selection":
    from cli.topic.selection import BadSelection

    try:
        return asked.read()
    except BadSelection as error:
        raise _usage(error) from error


def _fix(set_: list[str], unset: list[str], command: str, *, edit: bool) -> "Fix | None":
    from cli.topic import fixes
    from cli.topic.selection import BadSelection

    if bool(set_ or unset) + bool(command) + edit > 1:
        raise typer.BadParameter("take one of --set and --unset, --fix, and --edit", param_hint="--fix")
    if edit and not sys.stdin.isatty():
        raise typer.BadParameter("needs a terminal; in a script use --set, --unset or --fix", param_hint="--edit")
    try:
        settings = [fixes.parse_set(text) for text in set_]
        settings += [fixes.Setting(fixes.parse_path("--unset", text), None) for text in unset]
        if settings:
            return fixes.setting(settings)
        if command:
            return fixes.command(command)
    except BadSelection as error:
        raise _usage(error) from error
    return fixes.editor() if edit else None


def _usage(error: Exception) -> typer.BadParameter:
    """An option that cannot be read: the message names it, and the exit status is 2."""
    return typer.BadParameter(str(error))

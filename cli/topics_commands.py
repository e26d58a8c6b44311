"""`clew topics`: options and help; the work stands in `cli.topics`."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_DATA_DIR, DataDir, checked_addresses

app = typer.Typer(
    name="topics",
    help="Kafka's topics, as the contracts declare them.\n\n"
    "Exit status of both commands: 0 all is as declared, 1 nothing runs, or Kafka refused or did not answer, 2 wrong "
    "options or file, 3 changes are pending.\n\n"
    "How to connect to a cluster with TLS or SASL stands in the file that CLEW_KAFKA_PROPERTIES_FILE names.",
    no_args_is_help=True,
)

KafkaAddress = Annotated[
    str,
    typer.Option(
        metavar="HOST:PORT",
        envvar="CLEW_KAFKA",
        help="The cluster; without it that of the mesh that runs in DATA_DIR.",
        callback=checked_addresses,
    ),
]
File = Annotated[
    Path | None,
    typer.Option(
        help="TOML with what is to differ here: partitions, replicas, config, of one topic or all (docs/TOPICS.md).",
        exists=True,
        dir_okay=False,
    ),
]
Replicas = Annotated[
    int | None, typer.Option(min=1, help="Replicas of the topics that are created, instead of those declared.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def plan(
    kafka: KafkaAddress = "",
    data_dir: DataDir = DEFAULT_DATA_DIR,
    file: File = None,
    replicas: Replicas = None,
    as_json: Json = False,
) -> None:
    """Show how a cluster's topics differ from what is declared, and change nothing.

    Example: clew topics plan --kafka 127.0.0.1:9092
    """
    from cli.topics import Where, show_plan

    raise typer.Exit(show_plan(Where(data_dir, kafka, file, replicas), as_json=as_json))


@app.command()
def apply(
    kafka: KafkaAddress = "",
    data_dir: DataDir = DEFAULT_DATA_DIR,
    file: File = None,
    replicas: Replicas = None,
    add_partitions: Annotated[
        bool,
        typer.Option(
            "--add-partitions",
            help="Add partitions too. Keys move: no order is kept from a person's old partition to the new one.",
        ),
    ] = False,
    discard_records: Annotated[
        bool,
        typer.Option("--discard-records", help="Also change what lets Kafka delete records sooner than it would now."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a cluster's topics what is declared: create, configure. Topics and partitions are never deleted.

    It may be run again at any time. Example: clew topics apply --kafka 127.0.0.1:9092
    """
    from cli.topics import Where, apply_plan
    from mesh.topics.plan import Permission

    given = {Permission.ADD_PARTITIONS: add_partitions, Permission.DISCARD_RECORDS: discard_records}
    permissions = [permission for permission, said in given.items() if said]
    raise typer.Exit(apply_plan(Where(data_dir, kafka, file, replicas), permissions, as_json=as_json))

"""`clew schemas`: options and help; the work stands in `cli.schemas`."""

from typing import Annotated

import typer

from cli.options import checked_registry

app = typer.Typer(
    name="schemas",
    help="The schemas of the topics, in a Confluent-compatible registry of your own.\n\n"
    "The gateway has a read-only registry itself (HTTP, /registry). Where another one is to be used, register the "
    "schemas when you deploy, and start the gateway with CLEW_SCHEMA_REGISTRY: it looks the ids up and registers "
    "nothing.\n\n"
    "Exit status of both commands: 0 all is registered, 1 the registry refused or did not answer, or a schema is "
    "incompatible, 2 wrong options, 3 schemas are to be registered.\n\n"
    "Log in by CLEW_SCHEMA_REGISTRY_AUTH=USER:PASSWORD or CLEW_SCHEMA_REGISTRY_TOKEN.",
    no_args_is_help=True,
)

Registry = Annotated[
    str,
    typer.Option(
        "--registry",
        metavar="URL",
        envvar="CLEW_SCHEMA_REGISTRY",
        help="The registry's root.",
        callback=checked_registry,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON: each schema with its subject, version and id.")]


@app.command()
def plan(registry: Registry, as_json: Json = False) -> None:
    """Show which schemas a registry lacks, check that they may follow what it has, and change nothing.

    Example: clew schemas plan --registry http://127.0.0.1:8081
    """
    from cli.schemas import show_plan

    raise typer.Exit(show_plan(registry, as_json=as_json))


@app.command()
def apply(registry: Registry, as_json: Json = False) -> None:
    """Register what a registry lacks, imports first; nothing when one schema of them is incompatible.

    It may be run again at any time. Example: clew schemas apply --registry http://127.0.0.1:8081
    """
    from cli.schemas import apply_plan

    raise typer.Exit(apply_plan(registry, as_json=as_json))

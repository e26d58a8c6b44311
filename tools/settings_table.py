"""Write docs/CONFIGURATION.md: every variable of every process, from the dataclasses that read them.

`--check` writes nothing and exits with 1 when the file is not what would be written.
"""

import sys
from pathlib import Path

from consent_svc.settings import ConsentSettings
from enrich_svc.settings import EnrichSettings
from gateway.claims.settings import ClaimsSettings
from gateway.settings import GatewaySettings
from gateway.spool.settings import SpoolSettings
from identity_svc.settings import IdentitySettings
from mesh.bus.embedded import EmbeddedSettings
from mesh.bus.kafka_client import KafkaSettings
from mesh.registry.outside import RegistrySettings
from mesh.server import ServerSettings
from mesh.settings import describe_settings
from mesh.telemetry import TelemetrySettings

TARGET = Path(__file__).resolve().parents[1] / "docs" / "CONFIGURATION.md"
SECTIONS: tuple[tuple[str, type], ...] = (
    ("Every process", ServerSettings),
    ("Every process: telemetry", TelemetrySettings),
    ("Gateway", GatewaySettings),
    ("Gateway: messages and ledger", ClaimsSettings),
    ("Gateway: Kafka", KafkaSettings),
    ("Gateway: store and forward", SpoolSettings),
    ("Gateway: schema registry", RegistrySettings),
    ("identity_svc", IdentitySettings),
    ("consent_svc", ConsentSettings),
    ("enrich_svc", EnrichSettings),
    ("Embedded broker", EmbeddedSettings),
)
INTRODUCTION = """\
# Configuration

Environment variables only, each read in one place. A value that cannot be used ends the process with status 2 and a
message that names the variable and what to do. `clew up` sets what a mesh on one machine needs; everything else passes
through to the processes.

This page is written by `python tools/settings_table.py` from the code.
"""


def table(settings: type) -> str:
    """The variables of one dataclass, as a Markdown table; what every process reads stands in the first one only."""
    known = set() if settings is ServerSettings else {row.variable for row in describe_settings(ServerSettings)}
    rows = ["| Variable | Type | Default | Meaning |", "|---|---|---|---|"]
    for row in describe_settings(settings):
        if row.variable in known:
            continue
        default = "required" if row.default is None else f"`{row.default}`" if row.default else "none"
        kind = row.type.replace(" | ", ", ")
        rows.append(f"| `{row.variable}` | {kind} | {default} | {row.help} |")
    return "\n".join(rows)


def page() -> str:
    """The whole page."""
    return INTRODUCTION + "".join(f"\n## {title}\n\n{table(settings)}\n" for title, settings in SECTIONS)


def main(arguments: list[str]) -> int:
    """Write the page, or say whether it is up to date."""
    if "--check" in arguments:
        if TARGET.exists() and TARGET.read_text() == page():
            return 0
        print(f"{TARGET.name} is not what the code says: run `python tools/settings_table.py`", file=sys.stderr)
        return 1
    TARGET.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

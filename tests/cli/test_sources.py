"""What `clew source` and `clew tail --edge` make of options and answers."""

import io
import json
from pathlib import Path

import pytest
from google.protobuf.json_format import Parse
from rich.console import Console
from typer.testing import CliRunner

from clew.admin.v1 import source_pb2 as nouns
from clew.admin.v1.edge_debug_service_pb2 import EdgeEvent
from cli.main import app
from cli.source_view import print_json, print_source
from cli.sources import BadOption, Place, Values, duration
from cli.tables import print_table
from cli.tail_edge import VERDICTS, EdgeFilter, as_json, lines

PLACE = Place(Path("nowhere"), "main", "web", as_json=False)


@pytest.mark.parametrize(("text", "seconds"), [("0s", 0), ("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800)])
def test_durations_have_a_unit(text: str, seconds: int) -> None:
    """Seconds, minutes, hours or days."""
    assert duration(text).seconds == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "h", "-1h", "1.5h", "1w", "\uff11h", "1 h", "9" * 20 + "d", "9" * 5_000 + "s"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """With an example."""
    with pytest.raises(BadOption, match="write it like"):
        duration(text)


def test_what_is_not_named_is_not_changed() -> None:
    """Each option stands for its field; a rate of 0 and any origin take the field away."""
    assert Values().paths() == []
    assert Values(("essential",), 5.0, None, (), disabled=False).paths() == [
        "purposes",
        "limits",
        "allowed_origins",
        "disabled",
    ]
    taken = Values(rate=0.0, origins=("*",))
    assert taken.paths() == ["limits", "allowed_origins"]
    message = taken.message(PLACE)
    assert not message.HasField("limits")
    assert not message.HasField("allowed_origins")
    assert Values(origins=()).message(PLACE).HasField("allowed_origins")


@pytest.mark.parametrize(("rate", "burst", "expected"), [(500.0, None, 500), (0.2, None, 1), (5.0, 50, 50)])
def test_a_burst_is_a_seconds_worth_unless_it_is_named(rate: float, burst: int | None, expected: int) -> None:
    """And one event at least."""
    assert Values(rate=rate, burst=burst).message(PLACE).limits.burst == expected


def test_a_purpose_has_to_be_one() -> None:
    """The message lists them."""
    with pytest.raises(BadOption, match="essential, analytics"):
        Values(("fun",)).message(PLACE)


def test_a_table_is_in_columns_where_no_terminal_reads_it() -> None:
    """However long a line is, and nothing in a cell can steer a terminal."""
    out = io.StringIO()
    print_table(("a", "long heading"), [("x" * 90, "[red]"), ("\x1b[2J", "z")], Console(file=out))
    heading, first, second = out.getvalue().splitlines()
    assert heading.index("long") == first.index("[red]") == second.index("z") == 92
    assert "\x1b" not in out.getvalue()
    assert "\\x1b[2J" in second


def test_a_table_is_drawn_on_a_terminal() -> None:
    """Folded to its width; brackets in a name are no colours."""
    out = io.StringIO()
    print_table(("name", "b"), [("[red]" + "y" * 60, "z")], Console(file=out, force_terminal=True, width=40, height=10))
    assert "[red]yyy" in out.getvalue()
    assert "y" * 60 not in out.getvalue()


def test_a_source_is_shown_with_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    """What is absent is said in words: default limits, any origin, never used."""
    source = nouns.Source(workspace="main", name="web", purposes=[1, 2])  # type: ignore[list-item]
    source.write_keys.add(id="k1", prefix="wk_0123456", state=nouns.WRITE_KEY_STATE_ACTIVE)
    source.write_keys[0].create_time.FromJsonString("2026-01-02T03:04:05Z")
    print_source(source)
    shown = capsys.readouterr().out
    assert "default" in shown
    assert "any" in shown
    assert "purposes: essential, analytics" in shown
    row = next(line for line in shown.splitlines() if line.startswith("k1"))
    assert row.split()[:5] == ["k1", "wk_0123456", "active", "2026-01-02", "03:04:05"]
    assert row.endswith("never")


def test_json_has_the_contracts_names(capsys: pytest.CaptureFixture[str]) -> None:
    """So that it can be read back."""
    source = nouns.Source(workspace="main", name="web", disabled=True)
    source.limits.events_per_second = 0.5
    print_json(source=source, secret="s")
    shown = json.loads(capsys.readouterr().out)
    assert Parse(json.dumps(shown["source"]), nouns.Source()) == source
    assert shown["secret"] == "s"


def edge_event(**fields: object) -> EdgeEvent:
    """An event that consent stopped."""
    event = Parse(
        json.dumps(
            {
                "source": "web",
                "message_id": "m-1",
                "trace_id": "ab" * 16,
                "receive_time": "2026-01-02T03:04:05.678Z",
                "verdict": "VERDICT_FILTERED",
                "stages": [
                    {"stage": "STAGE_ADMIT", "status": "STAGE_STATUS_PASSED"},
                    {
                        "stage": "STAGE_DECIDE",
                        "status": "STAGE_STATUS_STOPPED",
                        "reason": "FILTER_REASON_CONSENT",
                        "detail": "consent allows none",
                    },
                ],
                "event_json": '{"user_id":"[direct_id]"}',
                **fields,
            }
        ),
        EdgeEvent(),
    )
    assert isinstance(event, EdgeEvent)
    return event


def test_an_event_at_the_edge_is_a_line_and_what_is_known_below() -> None:
    """Its way stage by stage, why it ended, and the event as it may be seen."""
    first, detail, event = lines(edge_event()).splitlines()
    assert first.startswith("03:04:05.678 filtered ")
    assert first.endswith(f"trace={'ab' * 16}  admit > decide stopped (consent)")
    assert (detail.strip(), event.strip()) == ("consent allows none", '{"user_id":"[direct_id]"}')
    refused = lines(edge_event(verdict="VERDICT_UNSPECIFIED", source="", message_id="\u001b[2J", event_json=""))
    assert "unanswered" in refused
    assert "source=-" in refused
    assert "\x1b" not in refused


def test_an_event_at_the_edge_as_json_holds_the_event_as_an_object() -> None:
    """One line, by the contract's names."""
    shown = json.loads(as_json(edge_event()))
    assert shown["event"] == {"user_id": "[direct_id]"}
    assert shown["stages"][1]["reason"] == "FILTER_REASON_CONSENT"
    assert json.loads(as_json(edge_event(event_json="")))["event"] is None


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_filter_asks_the_gateway(verdict: str) -> None:
    """By the contract's numbers, 0 for what got none."""
    request = EdgeFilter("web", "m-1", "u-1", verdict).request()
    assert (request.source, request.message_id, request.user_id) == ("web", "m-1", "u-1")
    assert list(request.verdicts) == [VERDICTS[verdict]]
    assert not EdgeFilter().request().verdicts


@pytest.mark.parametrize(
    "command",
    [
        ("source",),
        ("source", "create"),
        ("source", "list"),
        ("source", "show"),
        ("source", "update"),
        ("source", "delete"),
        ("source", "history"),
        ("source", "key"),
        ("source", "key", "create"),
        ("source", "key", "rotate"),
        ("source", "key", "revoke"),
    ],
)
def test_every_command_teaches_itself(command: tuple[str, ...]) -> None:
    """Its help says what it does; no option is without an explanation."""
    shown = CliRunner().invoke(app, [*command, "--help"])
    assert shown.exit_code == 0
    assert "Usage" in shown.output
    assert " ".join(command) in shown.output

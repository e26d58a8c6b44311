"""The figures as Markdown, and their place in docs/RELIABILITY.md."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from tests.faults.result import Piece, Recovery, Results, by_process, causes, quantile
from tests.faults.schedule import kind

BEGIN: Final = "<!-- Written by `make test-faults`: do not edit from here -->"
END: Final = "<!-- to here. -->"


def render(results: Results) -> str:
    """All figures."""
    pieces = results.pieces
    blocks = [_header(pieces), _promises(pieces)] if pieces else ["No rounds yet."]
    for gateways in sorted({piece.gateways for piece in pieces}):
        chosen = [piece for piece in pieces if piece.gateways == gateways]
        blocks.append(f"### Recovery, {gateways} gateway{'s' if gateways > 1 else ''}\n\n{_recoveries(chosen)}")
    if pieces:
        blocks.append(f"### Behind the figures\n\n{_details(pieces)}")
    if results.order:
        blocks.append(f"### Order\n\n{_order(results)}")
    return "\n\n".join(blocks)


def write_into(document: Path, figures: str, begin_mark: str = BEGIN, end_mark: str = END) -> None:
    """Replace the document's figures, which stand between two marks.

    Raises:
        ValueError: It has no place for them.
    """
    text = document.read_text("utf-8")
    before, begin, rest = text.partition(begin_mark)
    _, end, after = rest.partition(end_mark)
    if not begin or not end:
        raise ValueError(f"{document} has no place for figures: {begin_mark} ... {end_mark}")
    document.write_text(f"{before}{begin_mark}\n\n{figures}\n\n{end_mark}{after}", "utf-8")


def _header(pieces: Sequence[Piece]) -> str:
    dates = sorted({piece.date for piece in pieces})
    seeds = ", ".join(str(seed) for seed in sorted({piece.seed for piece in pieces}))
    rounds = sum(len(piece.recoveries) for piece in pieces)
    seconds = sum(piece.seconds for piece in pieces)
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"{when}: {rounds} rounds in {len(pieces)} runs, seeds {seeds}, {seconds / max(1, rounds):.1f} s a round."


def _promises(pieces: Sequence[Piece]) -> str:
    rows = [
        _promise(str(gateways), [piece for piece in pieces if piece.gateways == gateways])
        for gateways in sorted({piece.gateways for piece in pieces})
    ]
    if len(rows) > 1:
        rows.append(_promise("all", pieces))
    names = (
        "gateways",
        "rounds",
        "sent",
        "acknowledged",
        "**lost**",
        "**doubled**",
        "filtered",
        "kept though refused",
        "ledger",
    )
    return table(names, rows)


def _promise(name: str, pieces: Sequence[Piece]) -> list[object]:
    return [
        name,
        sum(len(piece.recoveries) for piece in pieces),
        sum(sum(piece.sent.values()) for piece in pieces),
        sum(piece.acknowledged for piece in pieces),
        _with_causes(cause for piece in pieces for cause in piece.lost.values()),
        _with_causes(double.cause for piece in pieces for double in piece.doubled.values()),
        sum(piece.filtered for piece in pieces),
        sum(len(piece.leaked) for piece in pieces),
        "balanced" if not any(piece.ledger for piece in pieces) else "**not balanced**",
    ]


def _with_causes(targets: Iterable[str]) -> str:
    found = causes(targets)
    if not found:
        return "0"
    return f"{found.total():,} ({', '.join(f'{cause} {count:,}' for cause, count in found.most_common())})"


def _recoveries(pieces: Sequence[Piece]) -> str:
    """Two gateways have two times: until one serves, and until both do."""
    several = pieces[0].gateways > 1
    names = ["killed", "rounds", "median s", "p99 s", "max s"]
    names += ["every gateway: median s", "p99 s", "max s"] if several else []
    rows = [[target, *_times(recoveries, several=several)] for target, recoveries in by_process(pieces).items()]
    return table(names, rows)


def _times(recoveries: Sequence[Recovery], *, several: bool) -> list[object]:
    cells: list[object] = [len(recoveries)]
    for values in ([served for _, served, _ in recoveries], [whole for *_, whole in recoveries])[: 1 + several]:
        cells += [f"{quantile(values, 0.5):.2f}", f"{quantile(values, 0.99):.2f}", f"{max(values):.2f}"]
    return cells


def _details(pieces: Sequence[Piece]) -> str:
    sent, answers, peak = dict[str, int](), dict[str, int](), dict[str, float]()
    for piece in pieces:
        for name, count in piece.sent.items():
            sent[name] = sent.get(name, 0) + count
        for name, count in piece.answers.items():
            answers[name] = answers.get(name, 0) + count
        for name, mib in piece.peak_mib.items():
            peak[kind(name)] = max(peak.get(kind(name), 0), mib)
    memory = ", ".join(f"{name} {mib:.0f}" for name, mib in sorted(peak.items()))
    retried, duplicates = sum(piece.retried for piece in pieces), sum(piece.duplicates for piece in pieces)
    rejected, again = sum(piece.rejected for piece in pieces), sum(piece.failed_again for piece in pieces)
    return (
        f"- Sent by client: {_listed(sent)}.\n"
        f"- Our own client was answered: {_listed(answers)}; it sent {retried:,} events more than once. {duplicates:,}"
        " events were acknowledged as `duplicate`.\n"
        f"- The libraries gave up {sum(piece.given_up for piece in pieces):,} messages and held"
        f" {sum(piece.pending for piece in pieces):,} when the runs ended; nothing was promised about those.\n"
        f"- Rejected events: {rejected:,}, of which {again:,} lie on the failed topic more than once.\n"
        f"- Most memory between rounds, MiB: {memory}."
    )


def _order(results: Results) -> str:
    order = results.order
    return (
        f"{order['date']}: {order['visitors']:,} visitors, {order['calls']:,} calls, two gateways:"
        f" **{order['inversions']} inversions** by the rule of docs/TOPICS.md, {order.get('stuck', 0)} events that it"
        f" never let pass, {order['missing']} calls missing, {order['doubled']} doubled. The login of"
        f" {order['split']:,} visitors merged two profiles, so that their calls stand under two keys; a consumer that"
        f" processes what it reads, as it reads it, sees {order.get('without_rule', 0):,} inversions in the worst of"
        " the readings."
    )


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: -item[1])) or "-"


def table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of Markdown: words on the left, numbers on the right."""
    lines = [f"| {' | '.join(names)} |", "|---|" + "---:|" * (len(names) - 1)]
    for row in rows:
        cells = (f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)

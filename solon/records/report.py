"""A report says what was claimed, what we found, how sure we are, and what differs from the paper.

One value, three forms: Markdown, JSON, and one HTML page with its plots inside (records/page.py). None holds
a time of day or a duration, so a run that was killed and continued writes the same bytes.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from html import escape
from typing import Any

from solon.statistics.intervals import Estimate

# None: the interval holds the border, or there is nothing to hold
VERDICTS = {True: "holds", False: "does not hold", None: "no verdict"}


@dataclass(frozen=True, slots=True)
class Claim:
    """One finding with its interval. `holds` is None where this run cannot tell."""

    name: str
    text: str
    found: float
    low: float
    high: float
    n: int
    holds: bool | None
    method: str

    @classmethod
    def of(cls, name: str, text: str, estimate: Estimate, holds: bool | None) -> Claim:
        """An estimate and a verdict that was reached elsewhere."""
        e = estimate
        method = e.method if e.clusters == e.n else f"{e.method}, {e.clusters} clusters"
        return cls(name, text, e.value, e.low, e.high, e.n, holds, method)

    @classmethod
    def above(
        cls, name: str, text: str, estimate: Estimate, border: float = 0.0, *, decidable: bool = True
    ) -> Claim:
        """That a number is above a border: it holds where the whole interval is, does not where the whole
        interval is below, and has no verdict otherwise, or where it is not `decidable`.

        >>> Claim.above("gain", "more is better", Estimate(0.2, 0.1, 0.3, "t", 9, 9)).holds
        True
        """
        holds = True if estimate.low > border else False if estimate.high < border else None
        return cls.of(name, text, estimate, holds if decidable else None)

    @classmethod
    def below(
        cls, name: str, text: str, estimate: Estimate, border: float = 0.0, *, decidable: bool = True
    ) -> Claim:
        """That a number is below a border; see `above`."""
        holds = True if estimate.high < border else False if estimate.low > border else None
        return cls.of(name, text, estimate, holds if decidable else None)

    @classmethod
    def between(
        cls, name: str, text: str, estimate: Estimate, low: float, high: float, *, decidable: bool = True
    ) -> Claim:
        """That a number lies between two borders: it holds where the whole interval does, does not where the
        whole interval lies outside.
        """
        inside = low <= estimate.low and estimate.high <= high
        outside = estimate.high < low or estimate.low > high
        return cls.of(
            name, text, estimate, (True if inside else False if outside else None) if decidable else None
        )

    def row(self) -> dict[str, Any]:
        """The form that `--json` prints."""
        return {key: getattr(self, key) for key in ("name", "found", "low", "high", "n", "holds")}


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A curve, with a band where `low` and `high` are given; `dots` draws points instead, with bars."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    note: str = ""
    ticks: tuple[str, ...] = ()  # names of x = 0, 1, ... where x is no number


@dataclass(frozen=True, slots=True)
class Map:
    """Regions, each as outlines of (x, y) points with y up, coloured by value from `low` to `high`; one
    without a value is grey.
    """

    title: str
    outlines: Mapping[str, tuple[tuple[tuple[float, float], ...], ...]]
    values: Mapping[str, float]
    low: float
    high: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Heat:
    """A text in tokens, each with what it adds: shown in colour, one for more and one for less."""

    label: str
    tokens: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One prompt and what was made of it, each part under its label, for a reader to judge. What is `blurred`
    (red-teaming text) is shown by the page when it is asked for, and not at all in Markdown; its title has to
    be fit to be read. What is `folded` opens when its title is clicked.
    """

    title: str
    parts: tuple[tuple[str, str], ...]
    blurred: bool = False
    folded: bool = False
    heats: tuple[Heat, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What one topic of a study adds to the report. Each topic is one function that returns one of these."""

    claims: tuple[Claim, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    maps: tuple[Map, ...] = ()
    gallery: tuple[Exhibit, ...] = ()
    warnings: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)  # what was not scored; zeros are left out


@dataclass(frozen=True, slots=True)
class Report:
    title: str
    summary: tuple[str, ...]
    claims: tuple[Claim, ...]
    warnings: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    gallery: tuple[Exhibit, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    deviations: tuple[str, ...] = ()
    constants: Mapping[str, str] = field(default_factory=dict)
    maps: tuple[Map, ...] = ()
    skipped: tuple[str, ...] = ()  # what was not run for want of an input, and the flag that gives it
    folder: str = ""  # where the run is kept, which is no part of its results

    @classmethod
    def of(
        cls,
        title: str,
        summary: Sequence[str],
        sections: Sequence[Section],
        *,
        deviations: Sequence[str] = (),
        constants: Mapping[str, str] | None = None,
    ) -> Report:
        """The report of several topics, in their order. A count that two sections have under one name is an
        error: one of them would be lost.
        """
        counts = [item for section in sections for item in section.counts.items()]
        assert len(dict(counts)) == len(counts), "two sections count the same thing"
        return cls(
            title=title,
            summary=tuple(summary),
            claims=tuple(claim for section in sections for claim in section.claims),
            warnings=tuple(warning for section in sections for warning in section.warnings),
            tables=tuple(table for section in sections for table in section.tables),
            figures=tuple(figure for section in sections for figure in section.figures),
            gallery=tuple(exhibit for section in sections for exhibit in section.gallery),
            counts={name: count for name, count in counts if count},
            deviations=tuple(deviations),
            constants=dict(constants or {}),
            maps=tuple(region for section in sections for region in section.maps),
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it but the folder, and the outlines of maps."""
        kept = asdict(replace(self, maps=()))
        del kept["folder"]
        return {
            **kept,
            "maps": [{"title": region.title, "values": dict(region.values)} for region in self.maps],
        }

    def _repr_html_(self) -> str:
        """The claims and warnings in a notebook; report.html in the run's folder has the figures."""
        table = claims_table(self.claims)
        rows = "".join(_html_row(row) for row in table.rows)
        parts = [f"<h3>{escape(self.title)}</h3>", *(f"<p>{escape(text)}</p>" for text in self.summary)]
        parts.append(f"<table>{_html_row(table.columns, 'th')}{rows}</table>")
        parts += [f"<p><b>Warning.</b> {escape(text)}</p>" for text in self.warnings]
        parts += [f"<p>Not run: {escape(text)}</p>" for text in self.skipped]
        return "".join([*parts, f"<p>{escape(self.folder)}/report.html</p>" if self.folder else ""])


def _html_row(cells: Sequence[str], tag: str = "td") -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def number(value: float) -> str:
    """
    >>> number(0.12345), number(12345.6), number(float("inf"))
    ('0.123', '12346', 'inf')
    """
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) >= 10 else f"{value:.3f}"


def claims_table(claims: Sequence[Claim]) -> Table:
    rows = tuple(
        (
            c.text,
            number(c.found),
            f"[{number(c.low)}, {number(c.high)}]",
            str(c.n),
            VERDICTS[c.holds],
            c.method,
        )
        for c in claims
    )
    return Table("What was found", ("claim", "found", "95% interval", "n", "verdict", "interval by"), rows)


def markdown(report: Report) -> str:
    """The report as Markdown; text of models stands in indented blocks."""
    parts = [f"# {report.title}", *report.summary]
    parts += [f"**Warning:** {warning}" for warning in report.warnings]
    parts += [f"**Not run:** {line}" for line in report.skipped]
    parts += [_table(claims_table(report.claims))]
    parts += [_table(table) for table in report.tables]
    if report.counts:
        parts.append(
            _table(
                Table(
                    "What was counted and not scored",
                    ("what", "count"),
                    tuple((k, str(v)) for k, v in report.counts.items()),
                )
            )
        )
    if report.gallery:
        parts.append("## Gallery")
    for exhibit in report.gallery:
        parts.append(f"### {exhibit.title}")
        if exhibit.blurred:
            parts.append(
                f"({len(exhibit.parts)} texts are not shown here; report.html shows them when asked.)"
            )
            continue
        heats = [(heat.label, "".join(token for token, _ in heat.tokens)) for heat in exhibit.heats]
        shown = [*exhibit.parts, *heats]
        parts += [
            f"{label}:\n\n" + "\n".join(f"    {line}" for line in text.splitlines() or [""])
            for label, text in shown
        ]
    if report.deviations:
        parts.append(
            "## Deviations from the paper\n\n" + "\n".join(f"- {words}" for words in report.deviations)
        )
    if report.constants:
        rows = tuple(report.constants.items())
        parts.append(
            _table(
                Table(
                    "Constants that the paper leaves unpublished, and are ours", ("constant", "value"), rows
                )
            )
        )
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    def cells(row: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"

    lines = [cells(table.columns), "|" + " --- |" * len(table.columns), *map(cells, table.rows)]
    return f"## {table.title}\n\n" + "\n".join(lines) + (f"\n\n{table.note}" if table.note else "")


def terminal(report: Report, *, width: int = 0) -> str:
    """The claims as a table that fits `width` columns (0: the terminal's own), warnings below."""
    width = width or shutil.get_terminal_size((110, 24)).columns
    head, *rows = [("claim", "found", "95% interval", "n", "verdict")] + [
        row[:5] for row in claims_table(report.claims).rows
    ]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(5)]
    widths[0] = min(widths[0], max(20, width - sum(widths[1:]) - 8))

    def lines(row: Sequence[str]) -> Iterator[str]:
        first, *more = textwrap.wrap(row[0], widths[0]) or [""]
        cells = [first, *row[1:]]
        yield "  ".join(cell.ljust(size) for cell, size in zip(cells, widths, strict=True)).rstrip()
        yield from (f"  {rest}" for rest in more)

    table = [head, ["-" * size for size in widths], *rows]
    parts = [
        report.title,
        "",
        *_wrapped(report.summary, width),
        "",
        *(line for row in table for line in lines(row)),
    ]
    parts += _wrapped([f"! {warning}" for warning in report.warnings], width)
    parts += _wrapped([f"- not run: {text}" for text in report.skipped], width)
    return "\n".join(parts)


def _wrapped(texts: Sequence[str], width: int) -> list[str]:
    return [line for text in texts for line in textwrap.wrap(text, width, subsequent_indent="  ") or [""]]


def from_dict(kept: Mapping[str, Any]) -> Report:
    """A report from its JSON form, without figures, maps and gallery: what a terminal shows of it."""
    claims = [{**claim} for claim in kept["claims"]]
    for claim in claims:  # JSON has no infinity
        claim |= {
            name: float("nan") if claim[name] is None else claim[name] for name in ("found", "low", "high")
        }
    return Report(
        title=kept["title"],
        summary=tuple(kept["summary"]),
        claims=tuple(Claim(**claim) for claim in claims),
        warnings=tuple(kept["warnings"]),
        counts=kept["counts"],
        deviations=tuple(kept["deviations"]),
        constants=kept["constants"],
        skipped=tuple(kept.get("skipped", ())),
    )

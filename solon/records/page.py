"""A report as one HTML page: no script, nothing fetched, plots as SVG inside. Model text is escaped, never
markup.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape

import matplotlib
from matplotlib.figure import Figure as Canvas

from solon.records.report import VERDICTS, Claim, Exhibit, Figure, Heat, Map, Report, Table, number

COLOURS = ("#1f5fa8", "#c2541b", "#2f7d4f", "#7a4a9c", "#6b6b6b", "#b8860b", "#138a8a", "#a83279")
STYLE = """
:root { --ink: #1c2126; --soft: #5c6670; --rule: #dde2e7; --paper: #ffffff; --wash: #f5f7f9; --good: #1f7a45; --bad: #b3371f; }
* { box-sizing: border-box } body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 5rem } h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .75rem }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--rule) } h3 { font-size: 1rem; margin: 1.5rem 0 .5rem }
p.lead { font-size: 1.05rem; margin: .3rem 0 } .note { color: var(--soft); font-size: .88rem }
.warning { background: #fdf1ec; border-left: 4px solid var(--bad); padding: .6rem .9rem; margin: .75rem 0 }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums }
th { text-align: left; color: var(--soft); font-weight: 600; border-bottom: 1px solid var(--rule); padding: .35rem .6rem .35rem 0 }
td { border-bottom: 1px solid var(--rule); padding: .4rem .6rem .4rem 0; vertical-align: top } .holds { color: var(--good); font-weight: 600 }
.fails { color: var(--bad); font-weight: 600 } figure { margin: 0; padding: .5rem; border: 1px solid var(--rule); border-radius: 6px }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 1rem } svg { width: 100%; height: auto; display: block }
figcaption { font-size: .85rem; color: var(--soft); padding: .25rem .4rem } .exhibit { background: var(--wash); border-radius: 6px; padding: .25rem 1rem 1rem; margin: 1rem 0 }
.replies { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 1rem } .replies h4 { margin: .5rem 0 .25rem; font-size: .85rem; color: var(--soft) }
.said { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .92rem } li { margin: .3rem 0 }
summary { cursor: pointer; padding: .4rem 0 } details.exhibit { margin: .3rem 0; padding-bottom: .25rem }
.blurred:not(:has(.unveil:checked)) .said { filter: blur(7px); user-select: none }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #9aa5b0; --rule: #333b43; --paper: #15191d; --wash: #1d2328; --good: #57c183; --bad: #f08a6c }
.warning { background: #33201a } figure { background: #fff } figcaption { color: #5c6670 } }
"""


def page(report: Report) -> str:
    """The whole page."""
    parts = [f"<h1>{escape(report.title)}</h1>"]
    parts += [f'<p class="lead">{escape(words)}</p>' for words in report.summary]
    parts += [
        f'<div class="warning"><strong>Warning.</strong> {escape(words)}</div>' for words in report.warnings
    ]
    parts += [f'<p class="note">Not run: {escape(line)}</p>' for line in report.skipped]
    parts += ["<h2>What was found</h2>", _claims(report.claims)]
    if report.figures:
        parts.append(f'<h2>Figures</h2><div class="figures">{"".join(map(_figure, report.figures))}</div>')
    parts += [
        f'<h2>{escape(own.title)}</h2>{map_svg(own)}<p class="note">{escape(own.note)}</p>'
        for own in report.maps
    ]
    parts += [f"<h2>{escape(table.title)}</h2>{_table(table)}" for table in report.tables]
    if report.counts:
        rows = tuple((name, str(count)) for name, count in report.counts.items())
        parts.append("<h2>What was counted and not scored</h2>" + _table(Table("", ("what", "count"), rows)))
    if report.gallery:
        parts.append("<h2>Gallery</h2>" + "".join(map(_exhibit, report.gallery)))
    if report.deviations:
        parts.append(
            "<h2>Deviations from the paper</h2><ul>"
            + "".join(f"<li>{escape(words)}</li>" for words in report.deviations)
            + "</ul>"
        )
    if report.constants:
        table = Table("", ("constant", "value"), tuple(report.constants.items()))
        parts.append("<h2>Constants that the paper leaves unpublished, and are ours</h2>" + _table(table))
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, '
        f'initial-scale=1"><title>{escape(report.title)}</title>'
    )
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>\n<body><main>\n'
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )


def _claims(claims: Sequence[Claim]) -> str:
    kinds = {True: "holds", False: "fails", None: "note"}
    head = "".join(
        f"<th>{name}</th>" for name in ("claim", "found", "95% interval", "n", "verdict", "interval by")
    )
    rows = "".join(
        f"<tr><td>{escape(c.text)}</td><td><strong>{number(c.found)}</strong></td><td>[{number(c.low)}, "
        f"{number(c.high)}]</td><td>{c.n}</td>"
        f'<td class="{kinds[c.holds]}">{VERDICTS[c.holds]}</td><td class="note">{escape(c.method)}</td></tr>'
        for c in claims
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}'
    )


def _heat(heat: Heat) -> str:
    """Tokens on a ground of blue for what adds, of red for what takes away, as strong as the strongest of
    them; each says its number on hovering.
    """
    most = max((abs(value) for _, value in heat.tokens), default=0.0) or 1.0
    spans = []
    for token, value in heat.tokens:
        colour = "31, 95, 168" if value > 0 else "194, 84, 27"
        spans.append(
            f'<span style="background: rgba({colour}, {abs(value) / most * 0.6:.3f})" '
            f'title="{value:+.3g}">{escape(token)}</span>'
        )
    return f'<div><h4>{escape(heat.label)}</h4><div class="said">{"".join(spans)}</div></div>'


def _exhibit(exhibit: Exhibit) -> str:
    parts = "".join(
        f'<div><h4>{escape(label)}</h4><div class="said">{escape(text)}</div></div>'
        for label, text in exhibit.parts
    )
    parts += "".join(map(_heat, exhibit.heats))
    veil = (
        '<label class="note"><input type="checkbox" class="unveil"> show what was said: it may be '
        "offensive</label>"
        if exhibit.blurred
        else ""
    )
    kind = "exhibit blurred" if exhibit.blurred else "exhibit"
    if exhibit.folded:
        return (
            f'<details class="{kind}"><summary>{escape(exhibit.title)}</summary>{veil}<div '
            f'class="replies">{parts}</div></details>'
        )
    return (
        f'<div class="{kind}"><h3>{escape(exhibit.title)}</h3>{veil}<div class="replies">{parts}</div></div>'
    )


def _figure(figure: Figure) -> str:
    note = f" {escape(figure.note)}" if figure.note else ""
    return f"<figure>{svg(figure)}<figcaption><strong>{escape(figure.title)}.</strong>{note}</figcaption></figure>"


def map_svg(own: Map) -> str:
    """A map as SVG text: each region a path with its value as a title, a key below."""
    points = [point for rings in own.outlines.values() for ring in rings for point in ring]
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    bottom, top = min(y for _, y in points), max(y for _, y in points)
    parts = []
    for name, rings in own.outlines.items():
        value = own.values.get(name)
        path = " ".join("M" + " ".join(f"{x - left:g},{top - y:g}" for x, y in ring) + "Z" for ring in rings)
        words = f"{name}: {'not measured' if value is None else number(value)}"
        parts.append(
            f'<path d="{path}" fill="{_shade(own, value)}" stroke="#ffffff" '
            f'stroke-width=".5"><title>{escape(words)}</title></path>'
        )
    width, height = right - left, top - bottom
    key = "".join(
        f'<rect x="{width * (0.3 + 0.04 * step):g}" y="{height + 8:g}" width="{width * 0.04:g}" height="8" '
        f'fill="{_shade(own, own.low + (own.high - own.low) * step / 9)}"/>'
        for step in range(10)
    )
    ends = "".join(
        f'<text x="{width * at:g}" y="{height + 25:g}" font-size="7" text-anchor="middle" '
        f'fill="currentColor">{number(value)}</text>'
        for at, value in ((0.3, own.low), (0.7, own.high))
    )
    return (
        f'<svg viewBox="0 0 {width:g} {height + 30:g}" role="img" '
        f'aria-label="{escape(own.title)}">{"".join(parts)}{key}{ends}</svg>'
    )


def _shade(own: Map, value: float | None) -> str:
    """From pale to dark blue."""
    if value is None:
        return "#d9dde1"
    share = min(1.0, max(0.0, (value - own.low) / (own.high - own.low or 1.0)))
    return "#" + "".join(
        f"{round(pale + share * (dark - pale)):02x}" for pale, dark in ((222, 13), (235, 58), (247, 115))
    )


def svg(figure: Figure) -> str:
    """The plot as SVG text, the same bytes for the same values."""
    with matplotlib.rc_context(
        {
            "svg.hashsalt": "solon",
            "svg.fonttype": "none",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    ):
        canvas = Canvas(figsize=(4.6, 3.1), layout="constrained")
        axes = canvas.add_subplot()
        for place, line in enumerate(figure.lines):
            colour = COLOURS[place % len(COLOURS)]
            axes.plot(
                line.x,
                line.y,
                "o" if line.dots else "-",
                color=colour,
                label=line.label,
                markersize=4,
                linewidth=1.6,
            )
            if line.low and line.dots:
                axes.vlines(line.x, line.low, line.high, color=colour, linewidth=1.2)
            elif line.low:
                axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
        axes.set_xlabel(figure.x)
        axes.set_ylabel(figure.y)
        if figure.ticks:
            turned = max(map(len, figure.ticks)) * len(figure.ticks) > 50
            axes.set_xticks(
                range(len(figure.ticks)),
                figure.ticks,
                rotation=35 if turned else 0,
                ha="right" if turned else "center",
                fontsize=8,
            )
        axes.grid(alpha=0.25)
        if len(figure.lines) > 1:
            axes.legend(frameon=False, fontsize=8)
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]

"""Parts of reports that several studies share, as functions over plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from solon.alignment.quality import ScoredComparison, accuracy, calibration_chart, length_correlation
from solon.records.report import Exhibit, Figure, Line
from solon.statistics.calibration import MIN_ITEMS
from solon.words.conversation import Conversation

Quality = Mapping[str, Sequence[ScoredComparison]]  # preference model's title -> comparisons it never saw


def chance_warnings(quality: Quality) -> Iterator[str]:
    """Preference models that are not shown to beat chance."""
    for title, rows in quality.items():
        if accuracy(rows).low <= 0.5:
            yield (
                f"The {title} is not shown to beat chance on comparisons that it never saw: what follows "
                "from its scores means little."
            )


def quality_warnings(quality: Quality, *, leaning: float = 0.3) -> Iterator[str]:
    """Preference models that are not shown to beat chance, follow length (the whole interval of the
    correlation lies beyond `leaning`), or were measured on too few comparisons to be called calibrated.
    """
    yield from chance_warnings(quality)
    for title, rows in quality.items():
        length = length_correlation(rows)
        if length is not None and (length.low > leaning or length.high < -leaning):
            yield (
                f"The {title} follows length: its score differences correlate {length.value:.2f} with word "
                "counts."
            )
        if len(rows) < MIN_ITEMS:
            yield (
                f"The calibration of the {title} rests on {len(rows)} comparisons; under {MIN_ITEMS} it is "
                "mostly noise."
            )


def calibration_figure(quality: Quality) -> Figure:
    """How often preference models are right against the probability that they state, 1 / (1 + e^-|d|), in
    equal-count bins.
    """
    lines = [Line("calibrated", (0.5, 1.0), (0.5, 1.0))]
    for title, rows in quality.items():
        bins = calibration_chart(rows)
        x, y = tuple(part.confidence for part in bins), tuple(part.accuracy for part in bins)
        lines.append(Line(title, x, y, dots=True))
    return Figure("Calibration of the preference models", "stated probability", "share right", tuple(lines))


def evenly_spaced(total: int, most: int) -> range:
    """At most so many indices at even distances: which ones are shown is not chosen by result.

    >>> list(evenly_spaced(10, 3)), list(evenly_spaced(2, 3))
    ([0, 3, 6], [0, 1])
    """
    step = max(1, total // most)
    return range(0, min(total, step * most), step)


def gallery(
    title: str, prompts: Sequence[Conversation], replies: Mapping[str, Sequence[str]], *, most: int
) -> tuple[Exhibit, ...]:
    """Prompts at even distances, and what each model says to them; `replies` are by model, one a prompt."""
    return tuple(
        Exhibit(
            f"{title} {index + 1}",
            (("prompt", prompts[index].last), *((model, texts[index]) for model, texts in replies.items())),
        )
        for index in evenly_spaced(len(prompts), most)
    )

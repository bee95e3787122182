"""Outlines of countries that ship with the package, and the names that surveys call them by."""

from __future__ import annotations

import json
import re
from functools import lru_cache

from solon.data import packaged

ALIASES = {
    "United States": "United States of America",
    "Britain": "United Kingdom",
    "Great Britain": "United Kingdom",
    "S. Korea": "South Korea",
    "S. Africa": "South Africa",
    "Czech Rep.": "Czechia",
    "Czech Republic": "Czechia",
    "Palest. ter.": "Palestine",
    "Ivory Coast": "Côte d'Ivoire",
    "Bosnia Herzegovina": "Bosnia and Herz.",
    "North Macedonia": "Macedonia",
    "Taiwan ROC": "Taiwan",
    "Viet Nam": "Vietnam",
    "Türkiye": "Turkey",
    "Dominican Republic": "Dominican Rep.",
    "Burma": "Myanmar",
}


@lru_cache
def outlines() -> dict[str, tuple[tuple[tuple[float, float], ...], ...]]:
    """Every country's outlines in degrees (longitude, latitude): Natural Earth's 1:110m, public domain,
    rounded to half degrees.
    """
    raw = json.loads(packaged.WORLD.read_text())["countries"]
    return {
        name: tuple(tuple((x / 2, y / 2) for x, y in ring) for ring in rings) for name, rings in raw.items()
    }


def on_the_map(country: str) -> str | None:
    """The country that a survey's name stands for; None where it is not among the outlines.

    >>> on_the_map("India (Current national sample)"), on_the_map("S. Korea"), on_the_map("Nowhere")
    ('India', 'South Korea', None)
    """
    bare = re.sub(r"\s*\(.*\)$", "", country).strip()
    name = ALIASES.get(bare, bare)
    return name if name in outlines() else None

"""Toy Models of Superposition."""

from solon.study.paper import Paper

PAPER = Paper(
    title="Toy Models of Superposition",
    arxiv="2209.10652",
    works=(
        "introduction, phase diagram against theory, geometry with a test for lines and its controls, tied "
        "features, learning, attacks, computation"
    ),
    lacks=(
        "attacks are found by ascent, so that vulnerability is a lower bound; sudden jumps while learning "
        "were looked for at one setting and not seen"
    ),
    offline="toy models",
)

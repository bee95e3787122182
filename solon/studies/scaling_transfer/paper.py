"""Scaling Laws for Transfer."""

from solon.study.paper import Paper

PAPER = Paper(
    title="Scaling Laws for Transfer",
    arxiv="2102.01293",
)

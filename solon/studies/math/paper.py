"""Measuring Mathematical Problem Solving."""

from solon.study.paper import Paper

PAPER = Paper(
    title="Measuring Mathematical Problem Solving",
    arxiv="2103.03874",
)

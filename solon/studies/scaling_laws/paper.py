"""Scaling Laws for Neural Language Models."""

from solon.study.paper import Paper

PAPER = Paper(
    title="Scaling Laws for Neural Language Models",
    arxiv="2001.08361",
)

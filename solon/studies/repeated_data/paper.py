"""Scaling Laws and Interpretability of Learning from Repeated Data."""

from solon.study.paper import Paper

PAPER = Paper(
    title="Scaling Laws and Interpretability of Learning from Repeated Data",
    arxiv="2205.10487",
)

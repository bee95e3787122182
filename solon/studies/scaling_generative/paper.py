"""Scaling Laws for Autoregressive Generative Modeling."""

from solon.study.paper import Paper

PAPER = Paper(
    title="Scaling Laws for Autoregressive Generative Modeling",
    arxiv="2010.14701",
)

"""An Empirical Model of Large-Batch Training."""

from solon.study.paper import Paper

PAPER = Paper(
    title="An Empirical Model of Large-Batch Training",
    arxiv="1812.06162",
)

"""DeepChrome 2.0."""

from solon.study.paper import Paper

PAPER = Paper(
    title="DeepChrome 2.0",
    arxiv="2209.11923",
)

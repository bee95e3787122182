"""The Many Faces of Robustness."""

from solon.study.paper import Paper

PAPER = Paper(
    title="The Many Faces of Robustness",
    arxiv="2006.16241",
)

"""Using Self-Supervised Learning Can Improve Model Robustness."""

from solon.study.paper import Paper

PAPER = Paper(
    title="Using Self-Supervised Learning Can Improve Model Robustness",
    arxiv="1906.12340",
)

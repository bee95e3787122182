"""Measuring Coding Challenge Competence with APPS."""

from solon.study.paper import Paper

PAPER = Paper(
    title="Measuring Coding Challenge Competence with APPS",
    arxiv="2105.09938",
)

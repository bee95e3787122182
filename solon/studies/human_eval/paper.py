"""Evaluating Large Language Models Trained on Code."""

from solon.study.paper import Paper

PAPER = Paper(
    title="Evaluating Large Language Models Trained on Code",
    arxiv="2107.03374",
)

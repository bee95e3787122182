"""Measuring Faithfulness in Chain-of-Thought Reasoning."""

from solon.study.paper import Paper

PAPER = Paper(
    title="Measuring Faithfulness in Chain-of-Thought Reasoning",
    arxiv="2307.13702",
)

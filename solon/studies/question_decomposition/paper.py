"""Question Decomposition Improves Faithfulness."""

from solon.study.paper import Paper

PAPER = Paper(
    title="Question Decomposition Improves Faithfulness",
    arxiv="2307.11768",
)

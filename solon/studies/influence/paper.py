"""Studying Large Language Model Generalization with Influence Functions."""

from solon.study.paper import Paper

PAPER = Paper(
    title="Studying Large Language Model Generalization with Influence Functions",
    arxiv="2308.03296",
    works=(
        "EK-FAC and K-FAC on linear layers, low-rank queries, by layer and token, TF-IDF candidates, tails;"
        " against the proximal response and retraining; `solon explain`"
    ),
    lacks="outputs erased one by one (appendix B), layers split into blocks",
    offline="digits, and a small transformer trained here",
)

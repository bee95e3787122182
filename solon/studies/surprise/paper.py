"""Predictability and Surprise in Large Generative Models."""

from solon.study.paper import Paper

PAPER = Paper(
    title="Predictability and Surprise in Large Generative Models",
    arxiv="2202.07785",
    works=(
        "loss against exact match and per-token accuracy to the length on k-digit addition, over training "
        "and width"
    ),
    lacks=(
        "recidivism, toxicity and recommendation; language models over scale (`solon compare` draws any "
        "checkpoints)"
    ),
    offline="small transformers trained here",
)

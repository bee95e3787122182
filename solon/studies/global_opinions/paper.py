"""Measuring the Representation of Subjective Global Opinions."""

from solon.study.paper import Need, Paper

PAPER = Paper(
    title="Measuring the Representation of Subjective Global Opinions",
    arxiv="2306.16388",
    works=(
        "similarity to every country with intervals, cross-national and linguistic prompting, entropy, a "
        "map and a strip"
    ),
    lacks="translations, which the user gives",
    offline="scripted models with planted opinions of invented countries",
    needs=(
        Need("survey", "GlobalOpinionQA rows", "huggingface.co/datasets/Anthropic/llm_global_opinions"),
        Need(
            "translations",
            "LANGUAGE=FILE: the same questions translated",
            "translated by you",
            "linguistic prompting",
        ),
    ),
)

"""Specific versus General Principles for Constitutional AI."""

from solon.study.paper import Need, Paper

PAPER = Paper(
    title="Specific versus General Principles for Constitutional AI",
    arxiv="2310.13798",
    works=(
        "five traits with questions and principles against one general principle in nine wordings; persona "
        "win rates; Elo over one refusal by step"
    ),
    lacks="feedback models large enough for the paper's jump, a crowd, traits that a model named",
    offline="a small transformer trained here and planted labels",
    needs=(
        Need(
            "personas",
            "persona sets of harmful traits",
            "https://github.com/anthropics/evals, folder persona",
            "win rates on published persona sets",
        ),
        Need(
            "comparisons",
            "people's helpful comparisons",
            "https://github.com/anthropics/hh-rlhf",
            "the third preference model",
        ),
    ),
)

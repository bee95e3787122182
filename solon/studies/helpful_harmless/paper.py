"""Training a Helpful and Harmless Assistant with RLHF."""

from solon.study.paper import Need, Paper

PAPER = Paper(
    title="Training a Helpful and Harmless Assistant with RLHF",
    arxiv="2204.05862",
    works=(
        "preference models over data, size, mixtures and weights; calibration; train and test models "
        "against the root of the KL; best of N; rounds against one; Elo with errors; out-of-distribution "
        "prompts by layer"
    ),
    lacks="people's votes, seven sizes of model",
    offline="a small transformer trained here and planted comparisons",
    needs=(
        Need(
            "comparisons",
            "people's comparisons, as hh-rlhf pairs or rows of prompt, first, second, p_first",
            "https://github.com/anthropics/hh-rlhf",
        ),
    ),
)

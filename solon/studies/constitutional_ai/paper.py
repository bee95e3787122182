"""Constitutional AI: Harmlessness from AI Feedback."""

from solon.study.paper import Need, Paper

PAPER = Paper(
    title="Constitutional AI: Harmlessness from AI Feedback",
    arxiv="2212.08073",
    works=(
        "both stages, soft and chain-of-thought labels, two preference models, RLOO and PPO, report; `solon"
        " align`"
    ),
    lacks="crowd Elo (needs people), scaling over model sizes, the absolute-harmfulness regression",
    needs=(
        Need(
            "comparisons",
            "people's comparisons",
            "https://github.com/anthropics/hh-rlhf",
            "the preference model of people's comparisons, and agreement of AI labels with people",
        ),
    ),
)

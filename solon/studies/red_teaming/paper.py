"""Red Teaming Language Models to Reduce Harms."""

from solon.study.paper import Need, Paper

PAPER = Paper(
    title="Red Teaming Language Models to Reduce Harms",
    arxiv="2209.07858",
    works=(
        "plain, prompted, rejection-sampling and RLHF defenders by size; attacks from a file, asked for, "
        "shown examples, reinforced; least harmlessness over turns clustered by attacker; a map of attacks;"
        " the published row format"
    ),
    lacks="a crowd of people and their ratings",
    offline="small transformers trained here with a planted weakness",
    needs=(
        Need("comparisons", "people's harmlessness comparisons", "https://github.com/anthropics/hh-rlhf"),
    ),
)

"""Language Models (Mostly) Know What They Know."""

from solon.study.paper import Need, Paper

PAPER = Paper(
    title="Language Models (Mostly) Know What They Know",
    arxiv="2207.05221",
    works=(
        "multiple choice and its variants, True or False, one temperature, P(True) alone and after "
        "brainstorming, P(IK) by probe, adapters or the whole model, sources and hints, crossed models, "
        "baselines, `solon knows`"
    ),
    lacks="python synthesis, entropy of 200 samples, the paper's sizes",
    offline="small transformers that were taught half of some facts",
    needs=(
        Need(
            "tasks",
            "questions with free replies and answers",
            "NQ-open, GSM8K, TriviaQA",
            "all tasks but sums",
        ),
        Need(
            "choice_sets",
            "questions with options",
            "MMLU, https://github.com/hendrycks/test",
            "multiple choice, True or False, one temperature",
        ),
        Need("others", "more models", "any", "crossed models"),
        Need(
            "temper",
            "a model whose calibration one temperature should repair",
            "one after reinforcement learning",
            "the temperature of a second model",
        ),
    ),
)

"""Towards Understanding Sycophancy in Language Models."""

from solon.study.paper import Need, Paper

PAPER = Paper(
    title="Towards Understanding Sycophancy in Language Models",
    arxiv="2310.13548",
    works=(
        "feedback, are-you-sure, suggestions, mimicry; Bayesian logistic regression of preferences on 23 "
        "features (HMC, NUTS as an extra); best of N by a preference model"
    ),
    lacks=(
        "free-form answers judged by a model, the non-sycophantic preference model, misconceptions by "
        "difficulty"
    ),
    offline="a scripted flatterer",
    needs=(
        Need(
            "questions_from",
            "an evaluation with lettered options and answers",
            "MMLU, https://github.com/hendrycks/test, or TruthfulQA",
            "are-you-sure, suggested answers, and best of N",
        ),
        Need("poems", "rows of poem, poet and wrong", "written by you", "mimicry"),
        Need(
            "comparisons",
            "people's comparisons, whose features the judge labels",
            "https://github.com/anthropics/hh-rlhf",
            "what preferences go by",
        ),
        Need(
            "preference_model",
            "a preference model's folder, used with --questions-from",
            "`solon align` writes one",
            "best of N",
        ),
    ),
)

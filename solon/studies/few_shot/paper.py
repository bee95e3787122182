"""Language Models are Few-Shot Learners."""

from solon.study.paper import Need, Paper

PAPER = Paper(
    title="Language Models are Few-Shot Learners",
    arxiv="2005.14165",
    works=(
        "zero, one and few examples over models, four scores of the options side by side, N-gram "
        "contamination with clean scores"
    ),
    lacks="completions by beam search, training of the models",
    offline="scripted models that learn from examples as planted",
    needs=(
        Need(
            "tasks", "evaluations with options", "MMLU, https://github.com/hendrycks/test, BoolQ, LAMBADA ..."
        ),
        Need("corpus", "texts that the models may have seen", "any text", "contamination"),
    ),
)

"""A General Language Assistant as a Laboratory for Alignment."""

from solon.study.paper import Need, Paper

PAPER = Paper(
    title="A General Language Assistant as a Laboratory for Alignment",
    arxiv="2112.00861",
    works=(
        "a prompt, its distillate and nothing; imitation, binary discrimination and ranked preference "
        "modelling over sizes; preference-model pretraining, ranked and binarised"
    ),
    lacks=(
        "the paper's own six tasks, its HHH comparisons, TruthfulQA and alignment-tax evaluations, crowd Elo"
    ),
    offline="small transformers trained here and planted comparisons",
    needs=(
        Need("comparisons", "people's comparisons", "https://github.com/anthropics/hh-rlhf"),
        Need(
            "public",
            "comparisons of the public: questions with votes, edits or annotations",
            (
                "StackExchange dumps as JSONL, "
                "huggingface.co/datasets/HuggingFaceH4/stack-exchange-preferences"
            ),
        ),
    ),
)

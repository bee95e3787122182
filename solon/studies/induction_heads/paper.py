"""In-context Learning and Induction Heads."""

from solon.study.paper import Need, Paper

PAPER = Paper(
    title="In-context Learning and Induction Heads",
    arxiv="2209.11895",
    works=(
        "small transformers of one to three layers, smeared keys, over training: in-context score, prefix "
        "matching, copying, previous token, per-token losses, phase change, pattern-preserving ablation, "
        "paths; every head of a given model"
    ),
    lacks="the QK trace, models trained on text",
    offline="small transformers trained here",
    needs=(
        Need(
            "texts",
            "text on which a given model's previous-token heads are scored",
            "WikiText-2, or any text",
        ),
    ),
)

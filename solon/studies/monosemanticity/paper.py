"""Scaling Monosemanticity."""

from solon.study.paper import Need, Paper

PAPER = Paper(
    title="Scaling Monosemanticity",
    arxiv="2605.29358",
    works=(
        "sparse autoencoders by an exactly sparse step on streamed activations, several at once; scaling "
        "laws and completeness on planted directions; specificity and sensitivity, steering, attribution, "
        "labels, one page of features; SAELens and sparsify forms, `solon features`"
    ),
    lacks="comparison with neurons, and with a difference of means",
    offline="planted directions, and a small transformer trained here",
    needs=(
        Need(
            "texts",
            "what the model reads: .txt, .md, rows with a text, .zip, or folders",
            "WikiText-2, or any text",
        ),
        Need("labeller", "a model that says what features stand for", "any", "labels of features"),
    ),
)

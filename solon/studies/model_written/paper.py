"""Discovering Language Model Behaviors with Model-Written Evaluations."""

from solon.study.paper import Need, Paper

PAPER = Paper(
    title="Discovering Language Model Behaviors with Model-Written Evaluations",
    arxiv="2212.09251",
    works=(
        "statements, questions after gold examples, introductions and sentences by a model; a preference "
        "model's or a model's filter; balance; labels looked over blind; a map; models by size or step on "
        "what was written and on published sets"
    ),
    lacks=(
        "crowd workers (their labels are read from a file), how relevant an item is, models of 52B parameters"
    ),
    offline="a scripted writer, judge and models",
    needs=(
        Need(
            "gold",
            "questions with two choices that the writer is shown",
            "https://github.com/anthropics/evals",
            "questions after gold examples",
        ),
        Need(
            "occupations",
            "occupations with the percentage of women in them",
            "https://github.com/rudinger/winogender-schemas",
            "sentences about occupations",
        ),
        Need(
            "on",
            "published sets that the models answer besides",
            "https://github.com/anthropics/evals",
            "the comparison with published sets",
        ),
    ),
)

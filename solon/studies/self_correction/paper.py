"""The Capacity for Moral Self-Correction."""

from solon.study.paper import Need, Paper

PAPER = Paper(
    title="The Capacity for Moral Self-Correction",
    arxiv="2302.07459",
    works=(
        "BBQ with the authors' scores, Winogender, admissions of made-up students, in three conditions over"
        " models"
    ),
    lacks="the law-school data set, which may not be passed on; the paper's sizes",
    offline="scripted models with a planted bias",
    needs=(
        Need("bias", "BBQ files", "https://github.com/nyu-mll/BBQ", "bias scores"),
        Need(
            "pronouns",
            "Winogender's templates.tsv, or Winogenerated sentences",
            "https://github.com/rudinger/winogender-schemas",
            "pronouns",
        ),
    ),
)

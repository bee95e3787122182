"""Measuring Progress on Scalable Oversight."""

from solon.study.paper import Need, Paper

PAPER = Paper(
    title="Measuring Progress on Scalable Oversight",
    arxiv="2211.03540",
    works=(
        "participants as people (answers read from a file) or simulated by a weak model, never together; "
        "weighted votes, five-bin calibration, assisted, unassisted, the model alone, after examples and "
        "best of many"
    ),
    lacks="the page where people take part",
    offline="scripted models",
    needs=(
        Need("questions_from", "an evaluation with options and answers", "MMLU, or QuALITY"),
        Need(
            "weak",
            "a model that stands in for people; required without --people",
            "any model",
            "simulated participants",
        ),
        Need(
            "people",
            "people's answers, required without --weak: rows of participant, condition, question, options, "
            "answer, chosen, confidence",
            "your own study",
            "people",
        ),
        Need(
            "examples_from",
            "another evaluation with options and answers",
            "MMLU's dev set",
            "the assistant after worked examples",
        ),
        Need(
            "judge",
            "a preference model's folder",
            "`solon align` writes one",
            "best of many chains of thought",
        ),
    ),
)

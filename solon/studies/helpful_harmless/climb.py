"""HH-RLHF's sections about the policy that climbs one preference model: the root law, best of N, and what it
gains on held-out prompts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from solon.alignment.overoptimisation import (
    SqrtKLLaw,
    best_of_n_kl,
    fit_sqrt_kl_law,
    overoptimisation_warning,
)
from solon.data.published import first_human_text
from solon.errors import InputError
from solon.records.report import Claim, Figure, Line, Section, Table, number
from solon.statistics.intervals import Estimate, paired_difference
from solon.studies.helpful_harmless.tournament import TITLES, Scores
from solon.study.claims import interval
from solon.words.conversation import Conversation

Steps = Sequence[Mapping[str, float]]
BestOf = Mapping[int, Mapping[str, Estimate]]  # by N and judge
Laws = Mapping[str, SqrtKLLaw | None]  # by judge


def fit_laws(steps: Steps) -> Laws:
    """The root law of each judge's scores over the steps; None where there are too few, or the policy did not
    move.
    """

    def fit(judge: str) -> SqrtKLLaw | None:
        try:
            return fit_sqrt_kl_law([max(row["kl_k3"], 0.0) for row in steps], [row[judge] for row in steps])
        except InputError:
            return None

    return {judge: fit(judge) for judge in TITLES}


def bends(laws: Laws) -> list[str]:
    """Where the lines end, in words."""
    return [
        f"The {TITLES[judge]}'s line bends down at a KL of {number(law.bend_kl)} nats."
        for judge, law in laws.items()
        if law is not None and law.bend_kl is not None
    ]


def climb_section(
    steps: Steps, best: BestOf, scores: Scores, prompts: Sequence[Conversation], laws: Laws
) -> Section:
    """Scores over the root of the KL, best of N beside them, and the policy against the start."""
    claims = []
    for judge, law in laws.items():
        if law is not None:
            text = f"score of the {TITLES[judge]} gained for each root nat of KL (k3, summed over the reply)"
            claims.append(Claim.above(f"law_{judge}", text, law.b))
    dialogues = [first_human_text(prompt) for prompt in prompts]
    for judge, title in TITLES.items():
        gain = paired_difference(scores["policy"][judge], scores["start"][judge], clusters=dialogues)
        text = f"the policy over the start on held-out prompts by the {title}, nats"
        claims.append(Claim.above(f"gain_{judge}", text, gain))
    warnings = [
        f"The {TITLES[judge]}'s root law could not be fitted: too few steps, or a policy that never moved."
        for judge, law in laws.items()
        if law is None
    ]
    over = overoptimisation_warning([row["train_pm"] for row in steps], [row["test_pm"] for row in steps])
    if over:
        warnings.insert(0, over[0].upper() + over[1:])
    return Section(
        claims=tuple(claims),
        tables=(law_table(laws), best_table(best)),
        figures=(climb_figure(steps, best, laws),),
        warnings=tuple(warnings),
    )


def law_table(laws: Laws) -> Table:
    """What was fitted, and where it ends."""
    rows = []
    for judge, law in laws.items():
        if law is not None:
            ends = "not before the last step" if law.bend_kl is None else f"{number(law.bend_kl)} nats"
            rows.append((TITLES[judge], number(law.a), interval(law.b), str(law.n), ends))
    columns = ("model", "a", "b", "steps fitted", "linearity ends at a KL of")
    return Table("score = a + b sqrt(KL)", columns, tuple(rows))


def best_table(best: BestOf) -> Table:
    """The best of N replies by the train PM, by both."""
    rows = tuple(
        (
            str(count),
            number(best_of_n_kl(count, tight=True)),
            number(best_of_n_kl(count, tight=False)),
            *(interval(scores[judge]) for judge in TITLES),
        )
        for count, scores in best.items()
    )
    kl = ("KL, log N - (N-1)/N", "KL, log N (as the paper draws it)")
    columns = ("N", *kl, *(f"{title}'s score" for title in TITLES.values()))
    note = "Nats, the start's mean removed; exact over the replies drawn, by order statistics."
    return Table("Best of N by the train PM", columns, rows, note)


def climb_figure(steps: Steps, best: BestOf, laws: Laws) -> Figure:
    """Both judges over the steps, their lines, and best of N at either formula of its KL."""
    x = tuple(math.sqrt(max(row["kl_k3"], 0.0)) for row in steps)
    lines = []
    for judge, title in TITLES.items():
        lines.append(Line(title, x, tuple(row[judge] for row in steps), dots=True))
        law = laws[judge]
        if law is not None:
            ends = (0.0, math.sqrt(law.bend_kl) if law.bend_kl is not None else max(x))
            lines.append(Line(f"{title}, line", ends, tuple(law.at(end**2) for end in ends)))
    scores = tuple(row["test_pm"].value for row in best.values())
    for tight, formula in ((True, "log N - (N-1)/N"), (False, "log N")):
        roots = tuple(math.sqrt(best_of_n_kl(count, tight=tight)) for count in best)
        lines.append(Line(f"best of N by test PM, KL {formula}", roots, scores, dots=not tight))
    return Figure(
        "Scores against the root of the KL",
        "sqrt(KL), nats summed over the reply (k3)",
        "score over the start's",
        tuple(lines),
    )

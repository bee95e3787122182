"""HH-RLHF's tournament: Elo by the choices of each judge, and where a naive Elo of the policy comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence

from solon.data.published import first_human_text
from solon.errors import InputError
from solon.evaluation.win_rate import WinRate, paired_win_rate
from solon.records.report import Table
from solon.statistics.elo import ELO_PER_NAT, Rating, elo_ratings, win_counts
from solon.statistics.intervals import Estimate, mean, paired_difference
from solon.studies.helpful_harmless.evidence import NAMES, Findings
from solon.studies.helpful_harmless.settings import Inputs


def judges_of(found: Findings) -> list[str]:
    return [*NAMES, *(["annotator"] if found.games else [])]


def elo(found: Findings, judge: str) -> tuple[dict[str, Rating], str]:
    """Ratings of all players by one judge's choices, or why there are none."""
    if judge == "annotator":
        rows = [(a, b, game.p_first) for (a, b), own in found.games.items() for game in own]
    else:
        rows = []
        players = list(found.scores)
        for place, a in enumerate(players):
            for b in players[place + 1 :]:
                pairs = zip(found.scores[a][judge], found.scores[b][judge], strict=True)
                rows += [(a, b, 0.5 if x == y else float(x > y)) for x, y in pairs]
    sure = [
        (a, b, float(p > 0.5))
        for a, b, p in rows
        if abs(p - 0.5) > (found.unsure if judge == "annotator" else 0.0)
    ]
    try:
        return elo_ratings(win_counts(sure), reference="start", ties=len(rows) - len(sure)), ""
    except InputError as error:
        return {}, f"Elo by the {NAMES.get(judge, judge)} is not reported: {error}."


def elo_table(found: Findings, inputs: Inputs) -> Table:
    titles = {
        "train_pm": "PM Elo: choices of the train PM",
        "test_pm": "PM Elo: choices of the test PM",
        "annotator": f"judge Elo: {inputs.annotator}",
    }
    fitted = {judge: elo(found, judge)[0] for judge in judges_of(found)}
    rows = []
    for player in found.scores:
        cells = []
        for own in fitted.values():
            rating = own.get(player)
            cells.append(
                "not reported"
                if rating is None
                else f"{rating.elo:.0f} [{rating.low:.0f}, {rating.high:.0f}]"
            )
        rows.append((player, *cells))
    note = (
        "Against the start, which is 0. Unsure votes are no games. Human Elo needs people's votes, and "
        "there are none here."
    )
    return Table(
        "Tournament on held-out prompts", ("player", *(titles[judge] for judge in fitted)), tuple(rows), note
    )


def decomposition(found: Findings, inputs: Inputs) -> Table:
    """From the score that reinforcement saw to what whoever compares says: how much of a naive Elo is left at
    each step.
    """
    dialogues = [first_human_text(prompt) for prompt in inputs.held_out]
    held = paired_difference(
        found.scores["policy"]["train_pm"], found.scores["start"]["train_pm"], clusters=dialogues
    )
    rows = [
        (
            "1. train PM's score on the prompts of reinforcement, last quarter of the steps less the start",
            in_elo(mean([gain for _, gain in found.gained], clusters=[prompt for prompt, _ in found.gained])),
        ),
        ("2. its mean score on held-out prompts, policy less start", in_elo(held)),
        ("3. its choices between those replies", of_choices(duel_of(found, "train_pm", dialogues))),
        ("3b. the test PM's choices between them", of_choices(duel_of(found, "test_pm", dialogues))),
    ]
    if ("start", "policy") in found.games:
        own, why = elo(found, "annotator")
        rating = own.get("policy")
        rows.append(
            (
                "4. judge Elo, by whoever compares",
                (why or "not reported")
                if rating is None
                else f"{rating.elo:.0f} [{rating.low:.0f}, {rating.high:.0f}]",
            )
        )
    note = (
        "The paper's figure 35, with a judge where it has people: (1) to (2) is the shift of prompts, "
        "(2) to (3) that scores are not odds, (3) to (4) what the PM gets wrong."
    )
    return Table(
        "Where a naive Elo of the policy comes from", ("measured", "Elo over the start"), tuple(rows), note
    )


def in_elo(nats: Estimate) -> str:
    return f"{nats.value * ELO_PER_NAT:.0f} [{nats.low * ELO_PER_NAT:.0f}, {nats.high * ELO_PER_NAT:.0f}]"


def duel_of(found: Findings, judge: str, dialogues: Sequence[str]) -> WinRate:
    return paired_win_rate(
        [[score] for score in found.scores["policy"][judge]],
        [[score] for score in found.scores["start"][judge]],
        clusters=dialogues,
    )


def of_choices(own: WinRate) -> str:
    """A win rate as Elo; a rate of 0 or 1 has none."""

    def odds(rate: float) -> str:
        return "-inf" if rate <= 0 else "inf" if rate >= 1 else f"{400 * math.log10(rate / (1 - rate)):.0f}"

    return f"{odds(own.rate.value)} [{odds(own.rate.low)}, {odds(own.rate.high)}]"

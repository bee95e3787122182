"""HH-RLHF's tournament: replies compared in pairs, Elo by the choices of each judge, and where a naive Elo of
the policy comes from.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from solon.alignment.feedback import ReplyPair
from solon.data.published import first_human_text
from solon.errors import InputError
from solon.evaluation.win_rate import WinRate, paired_win_rate
from solon.models.base import Sample
from solon.records.codecs import COMPARISONS
from solon.records.report import Claim, Section, Table
from solon.records.run import Run
from solon.statistics.elo import ELO_PER_NAT, Rating, elo_ratings, win_counts
from solon.statistics.intervals import Estimate, mean, paired_difference, proportion
from solon.studies.helpful_harmless.inputs import Annotate
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation

TITLES = {"train_pm": "train PM", "test_pm": "test PM"}
Games = Mapping[tuple[str, str], Sequence[Comparison]]  # by pair of players, a held-out prompt each
Scores = Mapping[str, Mapping[str, Sequence[float]]]  # by player and preference model, a held-out prompt each
Ratings = tuple[dict[str, Rating], str]  # by player, or why there are none


def annotate_pairs(run: Run, name: str, pairs: Sequence[ReplyPair], annotate: Annotate) -> list[Comparison]:
    """What the annotator prefers of each pair, kept as rows. It is not asked where one reply is empty, which
    loses, or both are alike, which is a tie.
    """
    asked = [pair for pair in pairs if by_rule(pair) is None]
    answers = iter(run.map(name, asked, annotate, COMPARISONS))
    labels = []
    for pair in pairs:
        ruled = by_rule(pair)
        labels.append(
            next(answers)
            if ruled is None
            else Comparison(pair.prompt, pair.first, pair.second, ruled, "rule")
        )
    return labels


def by_rule(pair: ReplyPair) -> float | None:
    """P(first better) where it needs no judge."""
    first, second = bool(pair.first.strip()), bool(pair.second.strip())
    if first != second:
        return float(first)
    return 0.5 if pair.first == pair.second or not first else None


def play(
    run: Run, players: Mapping[str, Sequence[Sample]], prompts: Sequence[Conversation], annotate: Annotate
) -> dict[tuple[str, str], list[Comparison]]:
    """Every pair of players on every held-out prompt, compared."""
    games = {}
    for first, second in itertools.combinations(players, 2):
        pairs = [
            ReplyPair(prompt, one.text, two.text)
            for prompt, one, two in zip(prompts, players[first], players[second], strict=True)
        ]
        games[first, second] = annotate_pairs(run, f"games_{first}_{second}", pairs, annotate)
    return games


def elo_by_games(games: Games, unsure: float) -> Ratings:
    """Ratings by the annotator's votes; those within `unsure` of one half are no games."""
    votes = [(a, b, game.p_first) for (a, b), rows in games.items() for game in rows]
    return _elo(votes, unsure, "annotator")


def elo_by_scores(scores: Scores, judge: str) -> Ratings:
    """Ratings by a preference model's choices; equal scores are no games."""
    votes = [
        (a, b, 0.5 if one == two else float(one > two))
        for a, b in itertools.combinations(scores, 2)
        for one, two in zip(scores[a][judge], scores[b][judge], strict=True)
    ]
    return _elo(votes, 0.0, TITLES[judge])


def _elo(votes: Sequence[tuple[str, str, float]], unsure: float, judge: str) -> Ratings:
    sure = [(a, b, float(p > 0.5)) for a, b, p in votes if abs(p - 0.5) > unsure]
    try:
        return elo_ratings(win_counts(sure), reference="start", ties=len(votes) - len(sure)), ""
    except InputError as error:
        return {}, f"Elo by the {judge} is not reported: {error}."


def tournament_section(
    prompts: Sequence[Conversation],
    scores: Scores,
    games: Games,
    gains: Sequence[tuple[str, float]],
    *,
    annotator: str,
    unsure: float,
) -> Section:
    """Elo by every judge, what a naive Elo of the policy is made of, and iterated training against one round.

    `gains` are (prompt, nats): what the last rollouts scored over the start by the train PM.
    """
    ratings = {judge: elo_by_scores(scores, judge) for judge in TITLES}
    if games:
        ratings["annotator"] = elo_by_games(games, unsure)
    dialogues = [first_human_text(prompt) for prompt in prompts]
    claims, warnings = online_claims(dialogues, games, unsure), [why for _, why in ratings.values() if why]
    if ("once", "online") in games and not claims:
        warnings.append(
            "Whoever compares could tell no replies of iterated and of one-round training apart: that "
            "comparison says nothing."
        )
    choices, votes = ratings["test_pm"][0], ratings.get("annotator", ({}, ""))[0]
    if "policy" in choices and "policy" in votes and choices["policy"].low > votes["policy"].high:
        warnings.append(
            f"The policy stands {choices['policy'].elo:.0f} Elo over the start by the test PM's choices and "
            f"{votes['policy'].elo:.0f} by {annotator}: part of what it gains by preference models is not "
            "there for others. Read the gallery."
        )
    tables = elo_table(list(scores), ratings, annotator), decomposition(scores, ratings, gains, dialogues)
    return Section(claims=tuple(claims), tables=tables, warnings=tuple(warnings))


def online_claims(dialogues: Sequence[str], games: Games, unsure: float) -> list[Claim]:
    """Whether iterated training wins over one round, where there were games that were no ties."""
    rows = zip(dialogues, games.get(("once", "online"), ()), strict=False)  # there may be no games
    votes = [(dialogue, game.p_first < 0.5) for dialogue, game in rows if abs(game.p_first - 0.5) > unsure]
    if not votes:
        return []
    won = proportion([vote for _, vote in votes], clusters=[dialogue for dialogue, _ in votes])
    text = "games that iterated training wins over one round of as many comparisons, by whoever compares"
    return [Claim.above("online_over_once", text, won, 0.5)]


def elo_table(players: Sequence[str], ratings: Mapping[str, Ratings], annotator: str) -> Table:
    """Every player's rating by every judge."""
    titles = {judge: f"PM Elo: choices of the {title}" for judge, title in TITLES.items()}
    titles["annotator"] = f"judge Elo: {annotator}"
    rows = tuple(
        (player, *(rating_text(rated.get(player)) for rated, _ in ratings.values())) for player in players
    )
    note = (
        "Against the start, which is 0. Unsure votes are no games. Human Elo needs people's votes, and there "
        "are none here."
    )
    columns = ("player", *(titles[judge] for judge in ratings))
    return Table("Tournament on held-out prompts", columns, rows, note)


def decomposition(
    scores: Scores,
    ratings: Mapping[str, Ratings],
    gains: Sequence[tuple[str, float]],
    dialogues: Sequence[str],
) -> Table:
    """From the score that reinforcement saw to what whoever compares says: how much of a naive Elo is left at
    each step.
    """
    policy, start = scores["policy"], scores["start"]
    held = paired_difference(policy["train_pm"], start["train_pm"], clusters=dialogues)
    seen = mean([gain for _, gain in gains], clusters=[prompt for prompt, _ in gains])

    def choices(judge: str) -> str:
        first, second = ([[score] for score in player[judge]] for player in (policy, start))
        return elo_of_rate(paired_win_rate(first, second, clusters=dialogues))

    step = "1. train PM's score on the prompts of reinforcement, last quarter of the steps less the start"
    rows = [
        (step, elo_of_nats(seen)),
        ("2. its mean score on held-out prompts, policy less start", elo_of_nats(held)),
        ("3. its choices between those replies", choices("train_pm")),
        ("3b. the test PM's choices between them", choices("test_pm")),
    ]
    if "annotator" in ratings:
        rated, why = ratings["annotator"]
        rows.append(("4. judge Elo, by whoever compares", why or rating_text(rated.get("policy"))))
    note = (
        "The paper's figure 35, with a judge where it has people: (1) to (2) is the shift of prompts, (2) to "
        "(3) that scores are not odds, (3) to (4) what the PM gets wrong."
    )
    columns = ("measured", "Elo over the start")
    return Table("Where a naive Elo of the policy comes from", columns, tuple(rows), note)


def rating_text(rating: Rating | None) -> str:
    """A rating with its interval."""
    return "not reported" if rating is None else f"{rating.elo:.0f} [{rating.low:.0f}, {rating.high:.0f}]"


def elo_of_nats(nats: Estimate) -> str:
    """A difference of scores as Elo."""
    return f"{nats.value * ELO_PER_NAT:.0f} [{nats.low * ELO_PER_NAT:.0f}, {nats.high * ELO_PER_NAT:.0f}]"


def elo_of_rate(won: WinRate) -> str:
    """A win rate as Elo; a rate of 0 or 1 has none."""

    def odds(rate: float) -> str:
        return "-inf" if rate <= 0 else "inf" if rate >= 1 else f"{400 * math.log10(rate / (1 - rate)):.0f}"

    return f"{odds(won.rate.value)} [{odds(won.rate.low)}, {odds(won.rate.high)}]"

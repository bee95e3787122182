"""The report of `solon features`: which features rose and fell, by Holm's step-down over all compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from solon.errors import InputError
from solon.models.activations import direct_logit_attribution
from solon.records.report import Claim, Exhibit, Figure, Heat, Line, Report, Section, Table, number
from solon.statistics.intervals import Estimate, mean
from solon.statistics.paired import holm
from solon.study.claims import interval
from solon.tools.features.study import Changes, Inputs, Settings, encode

FEWEST = 5  # conversations in which a feature has to be active to be compared
CLAIMED = 5  # features that rose, and that fell, with a claim and conversations each
DEVIATIONS = (
    "The paper looks at one model; comparing two by the first one's dictionary is ours.",
    "A feature's mean over tokens hides whether it fires more often or more strongly.",
)


@dataclass(frozen=True, slots=True)
class Move:
    """How far one feature's mean activation moved, and its p-value by Holm over all features compared."""

    feature: int
    change: Estimate
    p_value: float
    level: float  # the mean of the higher of both models' activations

    @property
    def rose(self) -> bool:
        return self.change.value > 0


def report(settings: Settings, changes: Changes) -> Report:
    """Features that rose and that fell, furthest first. Raises InputError on too few conversations."""
    inputs = changes.inputs
    conversations, prompts = len(changes.moved_CF), len(set(inputs.prompts))
    features, means, p_values = tested_features(changes)
    order = np.argsort(-means)
    moves = {
        title: [
            move_of(changes, int(features[index]), p_values[index])
            for index in ranked
            if way * means[index] > 0
        ][: settings.top]
        for title, ranked, way in (("Features that rose", order, 1), ("Features that fell", order[::-1], -1))
    }
    summary = (
        f"{inputs.dictionary.features} features after layer {inputs.layer}, learned from "
        f"{inputs.before.name}: their mean activation over the tokens of {conversations} conversations of "
        f"{prompts} prompts in {inputs.after.name} less that in {inputs.before.name}. {len(features)} are "
        f"active in {FEWEST} conversations or more; {sum(p < 0.05 for p in p_values)} of these moved, by "
        "Holm's step-down at 0.05."
    )
    rare = f"features active in fewer than {FEWEST} conversations, not compared"
    sections = [
        Section(counts={**inputs.counts, rare: inputs.dictionary.features - len(features)}),
        *(moved_section(title, some, changes, settings.examples) for title, some in moves.items() if some),
        explained_section(changes, conversations),
        Section(figures=(spread_figure(means),)),
    ]
    title = f"What moved from {inputs.before.name} to {inputs.after.name}"
    constants = {"top": str(settings.top), "examples": str(settings.examples)}
    return Report.of(title, [summary], sections, deviations=DEVIATIONS, constants=constants)


def tested_features(changes: Changes) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """(features compared, mean change, p-value by Holm): t tests over prompts, whose rows are not
    independent.

    Raises InputError where no feature is active often enough, or there are fewer than three prompts.
    """
    inputs = changes.inputs
    features = np.flatnonzero((changes.level_CF > 0).sum(axis=0) >= FEWEST)
    if len(features) == 0 or len(changes.moved_CF) < FEWEST:
        raise InputError(
            f"no feature is active in {FEWEST} conversations of {len(changes.moved_CF)}: give more of them"
        )
    moved_PF = by_prompt(changes.moved_CF[:, features], inputs.prompts)
    if len(moved_PF) < 3:
        raise InputError(f"{len(moved_PF)} prompts are too few to tell a change from chance; give 3 or more")
    errors = moved_PF.std(axis=0, ddof=1) / np.sqrt(len(moved_PF))
    means = moved_PF.mean(axis=0)
    p_values = 2 * stats.t.sf(np.abs(means) / np.maximum(errors, 1e-30), len(moved_PF) - 1)
    return features, means, holm(p_values.tolist())


def by_prompt(moved_CF: np.ndarray, prompts: Sequence[str]) -> np.ndarray:
    """The mean change over each prompt's conversations, (P, F)."""
    names = np.array(prompts)
    return np.array([moved_CF[names == prompt].mean(axis=0) for prompt in dict.fromkeys(prompts)])


def move_of(changes: Changes, feature: int, p_value: float) -> Move:
    """One feature's change with its interval over prompts."""
    moved_P = by_prompt(changes.moved_CF[:, [feature]], changes.inputs.prompts)[:, 0]
    return Move(feature, mean(moved_P.tolist()), p_value, float(changes.level_CF[:, feature].mean()))


def moved_section(title: str, moves: Sequence[Move], changes: Changes, examples: int) -> Section:
    """A table of the features that moved one way; claims and conversations of the first few."""
    logits = top_tokens(changes.inputs, [move.feature for move in moves])
    rows = tuple(
        (str(move.feature), interval(move.change), shown(move.p_value), number(move.level), tokens)
        for move, tokens in zip(moves, logits, strict=True)
    )
    columns = ("feature", "change of mean activation", "p, Holm", "level", "raises most")
    note = "Level: the mean of the higher of both models' activations."
    first = moves[:CLAIMED]
    return Section(
        claims=tuple(map(claim_of, first)),
        tables=(Table(title, columns, rows, note),),
        gallery=tuple(exhibit for move in first for exhibit in exhibits(changes, move, examples)),
    )


def claim_of(move: Move) -> Claim:
    """That a feature moved: by Holm, and by an interval that does not hold 0."""
    way = "rose" if move.rose else "fell"
    text = f"Feature {move.feature} {way} (mean activation a token; p {shown(move.p_value)} by Holm)"
    moved = move.change.low > 0 or move.change.high < 0
    return Claim.of(
        f"moved/{move.feature}", text, move.change, True if move.p_value < 0.05 and moved else None
    )


def top_tokens(inputs: Inputs, features: Sequence[int]) -> list[str]:
    """The tokens whose logits each feature raises most, less what all directions raise."""
    dictionary, backbone = inputs.dictionary, inputs.before.module
    logits_KV = direct_logit_attribution(backbone, dictionary.decoder_FD.detach()[list(features)])
    sample = dictionary.decoder_FD.detach()[:: max(1, dictionary.features // 200)]
    common_V = direct_logit_attribution(backbone, sample).mean(dim=0)
    logits_KV = logits_KV - common_V * (logits_KV @ common_V)[:, None] / (common_V @ common_V)
    return [
        ", ".join(repr(inputs.spelled(token)) for token in row.topk(5).indices.tolist()) for row in logits_KV
    ]


def exhibits(changes: Changes, move: Move, most: int) -> Iterator[Exhibit]:
    """The conversations in which a feature moved most its way, each token with how far."""
    inputs, feature = changes.inputs, move.feature
    moved_C = changes.moved_CF[:, feature] * (1 if move.rose else -1)
    for index in np.argsort(-moved_C)[:most]:
        if moved_C[index] <= 0:
            return
        row = inputs.rows[index]
        before_T, after_T = (
            encode(inputs, model, row)[0][:, feature] for model in (inputs.before, inputs.after)
        )
        heights = [*[0.0] * inputs.skip, *(after_T - before_T).tolist()]
        tokens = tuple(zip(map(inputs.spelled, row), heights, strict=True))
        heat = Heat(f"feature {feature}, after less before", tokens)
        title = f"Feature {feature}: {inputs.titles[index][:90]}"
        yield Exhibit(title, (), folded=True, blurred=True, heats=(heat,))


def explained_section(changes: Changes, conversations: int) -> Section:
    """What the dictionary explains of either model: what it lacks of the second may have moved unseen."""
    explained = changes.explained
    claims = tuple(
        Claim(
            f"explained/{name}",
            f"Variance that the dictionary explains of the model {name}",
            value,
            value,
            value,
            conversations,
            None,
            "counted",
        )
        for name, value in explained.items()
    )
    warning = (
        "the dictionary explains much less of the second model: features that it lacks may have moved more"
    )
    less = explained["after"] <= explained["before"] - 0.1
    return Section(claims=claims, warnings=(warning,) if less else ())


def spread_figure(means: np.ndarray) -> Figure:
    """How far features moved, furthest first."""
    spread = np.sort(np.abs(means))[::-1]
    line = Line("features", tuple(map(float, range(len(spread)))), tuple(map(float, spread)))
    return Figure("How far features moved", "features, furthest first", "mean change of activation", (line,))


def shown(p: float) -> str:
    """
    >>> shown(0.0123), shown(0.0)
    ('0.012', 'below 1e-12')
    """
    return "below 1e-12" if p < 1e-12 else f"{p:.2g}"

"""The study of self-knowledge beside the paper's claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from solon.evaluation.measure import Outcome
from solon.evaluation.scores import accuracy, calibration, with_temperature
from solon.evaluation.self_knowledge import p_true
from solon.records.report import Claim, Exhibit, Report, number
from solon.statistics.calibration import MIN_ITEMS
from solon.statistics.intervals import Estimate, bootstrap, mean, paired_difference
from solon.studies.know_what_they_know.results import (
    Findings,
    Judgement,
    charts,
    histograms,
    judged_right,
    known_figures,
    measured_area,
    ordered,
    shares,
    source_figure,
)
from solon.studies.know_what_they_know.settings import Inputs
from solon.studies.know_what_they_know.tables import (
    area_of,
    baselines,
    choices_table,
    matrix,
    one_temperature,
    p_ik_table,
    p_true_table,
    temperature_table,
)
from solon.study.claims import sign


def report(settings: Mapping[str, Any], found: Findings, inputs: Inputs) -> Report:
    main = inputs.models[0].name
    claims = [
        *_choice_claims(found),
        *_true_claims(found),
        *_known_claims(found, inputs),
        *_source_claims(found),
        *_crossed_claims(found, inputs),
    ]
    tables = [
        choices_table(found),
        *temperature_table(found),
        *p_true_table(found),
        *matrix(found),
        *p_ik_table(found, inputs),
        *baselines(found, main),
    ]
    figures = [*charts(found), *histograms(found), *known_figures(found, main), *source_figure(found)]
    asked = sum(map(len, found.problems.values()))
    summary = (
        f"{main}: {asked} questions in {len(found.problems)} tasks, {settings['samples']} samples each, "
        f"P(IK) by {settings['method']}; "
        f"{len(inputs.choices)} sets of multiple choice.",
    )
    return Report(
        f"What {main} knows of what it knows",
        summary,
        tuple(claims),
        tuple(_warnings(found, main)),
        tuple(tables),
        tuple(figures),
        tuple(_gallery(found, main)),
        _counts(found),
        _deviations(settings, inputs),
        _constants(settings),
    )


# multiple choice


def _choice_claims(found: Findings) -> list[Claim]:
    claims = []
    for name in dict.fromkeys(name for name, _ in found.choices):
        given, replaced, proposed = (
            found.choices[name, variant] for variant in ("as given", "none of the above", "true or false")
        )
        error = calibration(given).error
        words = f"{name}: calibration error of the top option (holds where it is shown to be above 0)"
        claims.append(Claim.of(f"{name}/calibration_error", words, error, True if error.low > 0 else None))
        loss = paired_difference(
            [float(row.correct is True) for row in replaced], [float(row.correct is True) for row in given]
        )
        claims.append(
            Claim.of(
                f"{name}/none_of_the_above",
                f"{name}: none of the above makes answers less often right",
                loss,
                sign(_turned(loss)),
            )
        )
        held = accuracy(proposed)
        claims.append(
            Claim.of(
                f"{name}/true_or_false",
                f"{name}: says which of a right and a wrong answer is true more often than chance",
                held,
                sign(held, 0.5),
            )
        )
        if name in found.tempered:
            claims.append(_temper_claim(name, found))
    return claims


def _turned(estimate: Estimate) -> Estimate:
    return Estimate(
        -estimate.value, -estimate.high, -estimate.low, estimate.method, estimate.n, estimate.clusters
    )


def _temper_claim(name: str, found: Findings) -> Claim:
    others, temperature = ordered(found.tempered[name])[1::2], one_temperature(found)
    before, after = (
        top_gaps(rows) for rows in (others, [with_temperature(row, temperature) for row in others])
    )
    gain = paired_difference(before, after, clusters=[row.cluster for row in others])
    words = (
        f"{name}: one temperature for all ({number(temperature)}) lowers the Brier score of the top option"
    )
    return Claim.of(f"{name}/temperature", words, gain, sign(gain))


def top_gaps(rows: Sequence[Outcome]) -> list[float]:
    return [(max(row.belief) - float(row.correct is True)) ** 2 for row in rows]


# P(True)


def _true_claims(found: Findings) -> list[Claim]:
    claims = []
    for task in found.problems:
        kinds = list(dict.fromkeys(kind for own, kind, _ in found.judged if own == task))
        ideas = max(count for own, _, count in found.judged if own == task)
        alone, after = found.judged[task, kinds[-1], 0], found.judged[task, kinds[-1], ideas]
        right = judged_right(after)
        area = measured_area([p_true(own.row) for own in after], right)
        if area is None:
            found.counts[f"{task}: P(True) not measured, all or none of the judged samples is right"] = len(
                after
            )
            continue
        claims.append(
            Claim.of(
                f"{task}/p_true",
                f"{task}: P(True) after brainstorming tells right samples from wrong (AUROC)",
                area,
                sign(area, 0.5),
            )
        )
        gain = paired_difference(
            *(
                [(p_true(own.row) - float(y)) ** 2 for own, y in zip(rows, right, strict=True)]
                for rows in (alone, after)
            )
        )
        claims.append(
            Claim.of(
                f"{task}/brainstorming",
                f"{task}: brainstorming lowers P(True)'s Brier score",
                gain,
                sign(gain),
            )
        )
        lift = _lift(after)
        if lift is not None:
            words = f"{task}: samples with P(True) > 0.5 are right more often than all"
            claims.append(Claim.of(f"{task}/lift", words, lift, sign(lift)))
    return claims


def _lift(rows: Sequence[Judgement]) -> Estimate | None:
    """Accuracy of samples with P(True) above one half, minus that of all; a bootstrap draws questions."""
    trusted = np.array([p_true(own.row) > 0.5 for own in rows])
    right = np.array(judged_right(rows), dtype=float)
    if not trusted.any():
        return None

    def gain(places: np.ndarray) -> float:
        drawn = places.astype(int)
        chosen = drawn[trusted[drawn]]
        return float(right[chosen].mean() - right[drawn].mean()) if len(chosen) else 0.0

    return bootstrap([float(place) for place in range(len(rows))], gain, resamples=1000)


# P(IK)


def _known_claims(found: Findings, inputs: Inputs) -> list[Claim]:
    main, claims = inputs.models[0].name, []
    for task in found.problems:
        area, _, _ = area_of(found, task, main, "all tasks")
        if area is None:
            found.counts[f"{task}: P(IK) has no AUROC, all or none of the held-out questions is known"] = len(
                found.known[task, main, "all tasks"]
            )
        else:
            claims.append(
                Claim.of(
                    f"{task}/p_ik",
                    f"{task}: P(IK) tells known from unknown questions (AUROC)",
                    area,
                    sign(area, 0.5),
                )
            )
    others = [
        (task, words)
        for task, model, words in found.known
        if model == main and words != "all tasks" and not words.startswith(f"{task} ")
    ]
    for task, words in others:
        own, whole = found.known[task, main, words], found.known[task, main, "all tasks"]
        truth = shares(found, task, main, list(own))
        gain = paired_difference(
            *([(p - y) ** 2 for p, y in zip(some.values(), truth, strict=True)] for some in (own, whole))
        )
        claims.append(
            Claim.of(
                f"{task}/generalisation",
                f"{task}: learning from all tasks beats {words} (fall of the Brier score)",
                gain,
                sign(gain),
            )
        )
    return claims


def _source_claims(found: Findings) -> list[Claim]:
    claims = []
    for task, told in found.sourced.items():
        if not told:
            continue
        best, other = told[-2][0], told[-1][0]
        known = next(
            values
            for (name, _, words), values in found.known.items()
            if name == task and words == "all tasks"
        )
        # P(IK) of the same questions without a source
        bare = [known[place] for place in found.sourced_at[task]]
        for name, text, first, second in (
            ("source", "P(IK) rises behind the strongest source", best, bare),
            (
                "other_source",
                "P(IK) is higher behind its own source than behind another question's",
                best,
                other,
            ),
        ):
            gain = paired_difference(first, second)
            claims.append(Claim.of(f"{task}/{name}", f"{task}: {text}", gain, sign(gain)))
    return claims


def _crossed_claims(found: Findings, inputs: Inputs) -> list[Claim]:
    """Section 5.6: on questions that only one of two models can answer, its own P(IK) is the higher one."""
    claims = []
    for other in inputs.models[1:]:
        first, second = inputs.models[0].name, other.name
        gaps: dict[str, list[float]] = {first: [], second: []}
        for task in found.problems:
            a, b = found.known[task, first, "all tasks"], found.known[task, second, "all tasks"]
            for place in a:
                knows = [found.drawn[task, name][place].share > found.threshold for name in (first, second)]
                if knows[0] != knows[1]:
                    gaps[first if knows[0] else second].append(
                        a[place] - b[place] if knows[0] else b[place] - a[place]
                    )
        for name, own in gaps.items():
            if len(own) < 2:
                found.counts[f"questions that only {name} knows, too few to cross"] = len(own)
                continue
            gain = mean(own)
            claims.append(
                Claim.of(
                    f"crossed/{name}",
                    f"On questions that only {name} knows, its P(IK) is above the other's",
                    gain,
                    sign(gain),
                )
            )
    return claims


def _gallery(found: Findings, main: str) -> list[Exhibit]:
    """The questions that P(IK) is most wrong about, either way."""
    shown = []
    for task in found.problems:
        own = found.known[task, main, "all tasks"]
        gaps = sorted(own, key=lambda place: own[place] - found.drawn[task, main][place].share)
        for place, words in ((gaps[-1], "it thinks it knows"), (gaps[0], "it does not think that it knows")):
            drawn = found.drawn[task, main][place]
            parts = (
                ("asked", found.problems[task][place].text),
                ("right", " | ".join(found.problems[task][place].answers)),
                ("some samples", "\n".join(dict.fromkeys(text.strip() for text in drawn.texts[:8]))),
            )
            shown.append(
                Exhibit(f"{task}: {words}: P(IK) {own[place]:.2f}, {drawn.share:.2f} of samples right", parts)
            )
    return shown


def _counts(found: Findings) -> dict[str, int]:
    counts = {words: count for words, count in found.counts.items() if count}
    for (task, model), drawn in found.drawn.items():
        unjudged = sum(own is None for one in drawn for own in one.right)
        if unjudged:
            counts[f"{task}, samples of {model} that could not be judged, taken as wrong"] = unjudged
    for (name, variant), rows in found.choices.items():
        ties = sum(row.tied for row in rows)
        if ties:
            counts[f"{name}, {variant}: ties, the first option taken"] = ties
    return counts


def _warnings(found: Findings, main: str) -> list[str]:
    told = []
    few = sorted(
        {name for (name, _), rows in found.choices.items() if len(rows) < MIN_ITEMS}
        | {task for task, own in found.problems.items() if len(own) < MIN_ITEMS}
    )
    if few:
        told.append(f"calibration errors on fewer than {MIN_ITEMS} items are mostly noise: {', '.join(few)}")
    for task in found.problems:
        known = sum(own.share > found.threshold for own in found.drawn[task, main])
        if known < 10:
            told.append(
                f"{task}: {main} knows {known} of {len(found.problems[task])} questions; what tells them "
                "from the others is hardly measured"
            )
    return told


def _deviations(settings: Mapping[str, Any], inputs: Inputs) -> tuple[str, ...]:
    own = [
        "Models, tasks and sizes are those given here, not the paper's 800M to 52B; there is no python "
        "synthesis, which needs a sandbox.",
        "Prompts have the paper's form in our own words; worked examples of the fixed prompt are ours.",
        "Multiple choice has one right option; True or False draws one wrong answer of each item.",
        f"The entropy baseline is of {settings['samples']} samples, the paper's of 200; the mean loss of "
        "samples stuffed into one context is not measured.",
    ]
    if settings["method"] != "full":
        own.append(
            f"P(IK) is a {settings['method']}, not a fine-tuning of the whole model as in the paper "
            "(section 5)."
        )
    if not settings["hard_copies"]:
        own.append("P(IK) learns one soft row a question, in expectation the paper's one row a sample.")
    if settings["hidden_options"]:
        own.append("Options of multiple choice are not shown; each is scored as it stands.")
    return tuple(own)


def _constants(settings: Mapping[str, Any]) -> dict[str, str]:
    names = ("ideas", "judged_shots", "batch", "epochs", "learning_rate", "rank", "depth", "threshold")
    return {name: str(settings[name]) for name in names}

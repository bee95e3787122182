"""What `solon knows` does: fit P(IK) on a person's own questions, find a threshold whose error rate is
guaranteed, and answer selectively.

Questions are parted by cluster: half fit the head, a quarter finds the threshold, a quarter measures what
came of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from solon.errors import InputError
from solon.evaluation.graders import extract_answer
from solon.evaluation.knowledge import (
    KnowledgeModel,
    build_knowledge_model,
    fit_knowledge_model,
    init_head,
    label_questions,
)
from solon.evaluation.measure import choice_outcomes
from solon.evaluation.selective import Threshold, certified_threshold, conformal_threshold, risk_coverage
from solon.evaluation.self_knowledge import (
    SampledAnswers,
    p_true,
    propose_answer,
    sample_answers,
    samples_from_row,
)
from solon.models.backbones.small_files import save_small
from solon.models.base import derive
from solon.models.huggingface import export
from solon.models.load import load_open
from solon.models.torch_model import TorchModel
from solon.records.files import write_text
from solon.records.report import Claim, Figure, Line, Report, Table, number
from solon.records.run import Run
from solon.statistics.calibration import auroc, brier_score
from solon.statistics.intervals import Estimate, bootstrap, paired_difference, proportion
from solon.study.claims import interval, sign
from solon.study.outcomes import key_of
from solon.tools.knows.settings import NAMES, By, Settings
from solon.training.fit import steps_for
from solon.training.optimiser import Plan
from solon.training.steps import State, Step
from solon.words.question import Problem

FILE, HEAD = "solon_knows.json", "solon_knows.safetensors"


@dataclass(frozen=True, slots=True)
class Knower:
    """A model with what it knows of itself: it answers where its confidence reaches the threshold."""

    model: TorchModel
    head: KnowledgeModel
    threshold: Threshold
    by: By
    ideas: int
    examples: tuple[Problem, ...]
    seed: int

    def confidences(self, problems: Sequence[Problem], drawn: Sequence[SampledAnswers]) -> list[float]:
        return confidences(self.by, self.model, self.head, problems, drawn, self.examples, ideas=self.ideas)

    def answered(self, problems: Sequence[Problem], samples: int = 0) -> list[dict[str, Any]]:
        """For each problem its confidence, whether that is enough, the greedy answer, and whether it is right
        where answers are known.
        """
        needed = max(2, self.ideas) if self.by == "p_true" else 1
        drawn = sample_answers(
            self.model, problems, examples=self.examples, samples=max(samples, needed), seed=self.seed
        )
        found = self.confidences(problems, drawn)
        return [
            {
                "question": problem.text,
                "confidence": p,
                "answers": p >= self.threshold.value,
                "answer": own.greedy.strip(),
                "right": own.greedy_right is True if any(problem.answers) else None,
            }
            for problem, own, p in zip(problems, drawn, found, strict=True)
        ]


def confidences(
    by: By,
    model: TorchModel,
    head: KnowledgeModel,
    problems: Sequence[Problem],
    drawn: Sequence[SampledAnswers],
    examples: Sequence[Problem],
    *,
    ideas: int,
) -> list[float]:
    """How sure the model is of its greedy answers, by one of three."""
    if by == "p_ik":
        return head(problems, examples=examples)
    if by == "likelihood":
        return [float(np.exp(-own.greedy_loss)) for own in drawn]
    put = [
        propose_answer(
            problem, own.greedy, right=None, ideas=[own.greedy, *own.texts[: ideas - 1]] if ideas else []
        )
        for problem, own in zip(problems, drawn, strict=True)
    ]
    return [p_true(row) for row in choice_outcomes(model, put)]


def study(
    run: Run, settings: Settings, model: TorchModel, problems: Sequence[Problem], counts: dict[str, int]
) -> Report:
    """Fit, certify, measure, and keep the model with its head in RUN/model."""
    order = sorted(problems, key=lambda own: derive(run.seed, "order", own.text))
    examples, kept = order[: settings.shots], order[settings.shots :][: settings.limit or None]
    if len(kept) < 40:
        raise InputError(
            f"{len(kept)} questions are left beside {settings.shots} examples; at least 40 are needed to "
            "fit, to certify and to measure"
        )
    fit_on, certify_on, measure_on = parts(kept, run.seed)
    drawn = {
        id(own): row for own, row in zip(kept, sampled(run, model, examples, kept, settings), strict=True)
    }

    # the head, from the share of right samples of the first half
    head = build_knowledge_model(
        model, settings.method, depth=settings.depth, rank=settings.rank, seed=derive(run.seed, "head")
    )
    rows = label_questions(head, fit_on, [drawn[id(own)].share for own in fit_on], examples=examples)
    steps = (
        0 if settings.method == "probe" else steps_for(len(rows), size=settings.batch, epochs=settings.epochs)
    )

    def loop(fresh: KnowledgeModel, state: State | None) -> Iterator[Step]:
        if state is None:
            init_head(fresh, rows)
        plan = Plan(steps, settings.learning_rate, warmup=min(5, steps), schedule="linear")
        return fit_knowledge_model(
            fresh,
            rows,
            plan=plan,
            size=settings.batch,
            seed=derive(run.seed, "P(IK)"),
            state=state,
            world=run.world,
        )

    head = run.trained("head", head, loop, steps=steps)

    # confidence of every greedy answer by each of three, and a threshold of the one that is asked for
    sure: dict[By, dict[int, float]] = {}
    for by in NAMES:

        def make(some: Sequence[Problem], by: By = by) -> list[dict[str, Any]]:  # type: ignore[assignment]
            return [
                {"p": p}
                for p in confidences(
                    by, model, head, some, [drawn[id(own)] for own in some], examples, ideas=settings.ideas
                )
            ]

        sure[by] = {  # type: ignore[index]
            id(own): row["p"]
            for own, row in zip(kept, run.rows(f"confidence_{by}", kept, key_of, make, size=64), strict=True)
        }
    certify_on = one_of_each(certify_on, run.seed)  # the exact test is of independent questions
    told = [sure[settings.by][id(own)] for own in certify_on]
    right = [drawn[id(own)].greedy_right is True for own in certify_on]
    # without their answers; a head is surer of what it was fitted on
    reference = [sure[settings.by][id(own)] for own in measure_on]
    threshold = certified_threshold(
        told, right, target=settings.target, reference=reference, failure=settings.failure
    )
    expected = conformal_threshold(told, right, target=settings.target)
    knower = Knower(model, head, threshold, settings.by, settings.ideas, tuple(examples), run.seed)
    run.artefact("model", lambda folder: save(knower, settings, folder))
    ranked = reranked(run, model, measure_on, [drawn[id(own)] for own in measure_on], settings)
    return report(
        settings, model.name, sure, measure_on, drawn, threshold, expected, ranked, counts, len(fit_on)
    )


def parts(problems: Sequence[Problem], seed: int) -> tuple[list[Problem], list[Problem], list[Problem]]:
    """Half, a quarter and a quarter, by cluster."""
    sides: tuple[list[Problem], list[Problem], list[Problem]] = ([], [], [])
    for own in problems:
        sides[(0, 0, 1, 2)[derive(seed, "part", own.cluster or own.text) % 4]].append(own)
    return sides


def one_of_each(problems: Sequence[Problem], seed: int) -> list[Problem]:
    """One question of each cluster, drawn by content."""
    kept: dict[str, Problem] = {}
    for own in sorted(problems, key=lambda own: derive(seed, "one", own.text)):
        kept.setdefault(own.cluster or own.text, own)
    return list(kept.values())


def sampled(
    run: Run, model: TorchModel, examples: Sequence[Problem], problems: Sequence[Problem], settings: Settings
) -> list[SampledAnswers]:
    def make(some: Sequence[Problem]) -> list[dict[str, Any]]:
        return [
            asdict(own)
            for own in sample_answers(model, some, examples=examples, samples=settings.samples, seed=run.seed)
        ]

    return [samples_from_row(row) for row in run.rows("samples", problems, key_of, make, size=16)]


def shown_with(own: SampledAnswers, place: int, ideas: int) -> list[str]:
    """The judged sample and as many others as are shown beside it, none twice."""
    others = [text for number, text in enumerate(own.texts) if number != place]
    return [own.texts[place], *others[: ideas - 1]] if ideas else []


def reranked(
    run: Run,
    model: TorchModel,
    problems: Sequence[Problem],
    drawn: Sequence[SampledAnswers],
    settings: Settings,
) -> list[dict[str, float]]:
    """Of each question: whether the sample of highest P(True) is right, the most common one, the greedy one,
    and the share of all that are.
    """
    pairs = list(zip(problems, drawn, strict=True))

    def make(some: Sequence[tuple[Problem, SampledAnswers]]) -> list[dict[str, Any]]:
        firsts = [
            list(
                {
                    extract_answer(one, text): place for place, text in reversed(list(enumerate(own.texts)))
                }.values()
            )
            for one, own in some
        ]
        put = [
            propose_answer(
                problem, own.texts[place], right=None, ideas=shown_with(own, place, settings.ideas)
            )
            for (problem, own), places in zip(some, firsts, strict=True)
            for place in places
        ]
        said = iter(choice_outcomes(model, put))
        made = []
        for (problem, own), places in zip(some, firsts, strict=True):
            best = max([(p_true(next(said)), -place) for place in places])
            lines = [extract_answer(problem, text) for text in own.texts]
            # nothing said has no vote
            common = lines.index(max(filter(None, lines), key=lines.count, default=lines[0]))
            made.append(
                {
                    "p_true": float(own.right[-best[1]] is True),
                    "common": float(own.right[common] is True),
                    "greedy": float(own.greedy_right is True),
                    "any": own.share,
                }
            )
        return made

    return list(run.rows("reranked", pairs, lambda pair: key_of(pair[0]), make, size=16))


def save(knower: Knower, settings: Settings, folder: Path) -> None:
    """A model folder that other libraries load, with the head and the threshold beside."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        export(knower.model, folder)
    except InputError:
        save_small(knower.model, folder)
    knower.head.save(folder / HEAD)
    about = {
        "method": settings.method,
        "depth": settings.depth,
        "rank": settings.rank,
        "by": knower.by,
        "ideas": knower.ideas,
        "seed": knower.seed,
        "threshold": {**asdict(knower.threshold), "value": min(knower.threshold.value, 2.0)},
        "examples": [asdict(own) for own in knower.examples],
        "plain": type(knower.model.dialogue).__name__ == "PlainText",
    }
    write_text(folder / FILE, json.dumps(about, indent=1, ensure_ascii=False) + "\n")


def load(folder: Path, *, precision: str = "auto") -> Knower:
    """What `save` wrote. Raises InputError where there is none, or it is of another form."""
    if not (folder / FILE).exists():
        raise InputError(
            f"{folder} holds no {FILE}: fit one first with solon knows MODEL --questions FILE, and give "
            "RUN/model"
        )
    try:
        about = json.loads((folder / FILE).read_text())
        model = load_open(str(folder), precision=precision)
        model = model.plain() if about["plain"] else model
        head = build_knowledge_model(model, about["method"], depth=about["depth"], rank=about["rank"])
        rows: list[dict[str, Any]] = [
            {name: tuple(v) if isinstance(v, list) else v for name, v in own.items()}
            for own in about["examples"]
        ]
        examples = tuple(Problem(**own) for own in rows)
        threshold = Threshold(**about["threshold"])
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError(f"{folder / FILE} is not what solon knows writes: {error}") from error
    head.load(folder / HEAD)
    return Knower(model, head, threshold, about["by"], about["ideas"], examples, about["seed"])


def report(
    settings: Settings,
    name: str,
    sure: dict[By, dict[int, float]],
    problems: Sequence[Problem],
    drawn: dict[int, SampledAnswers],
    threshold: Threshold,
    expected: Threshold,
    ranked: Sequence[dict[str, float]],
    counts: dict[str, int],
    fitted: int,
) -> Report:
    """What came of it on the questions that neither fitted nor certified."""
    right = [drawn[id(own)].greedy_right is True for own in problems]
    clusters = [own.cluster or own.text for own in problems]
    own = [sure[settings.by][id(problem)] for problem in problems]
    given = [(y, cluster) for p, y, cluster in zip(own, right, clusters, strict=True) if p >= threshold.value]
    claims = [
        Claim.of(
            "coverage",
            "questions that are answered",
            proportion([p >= threshold.value for p in own], clusters=clusters),
            None,
        )
    ]
    if given:
        wrong = proportion([not y for y, _ in given], clusters=[cluster for _, cluster in given])
        claims.append(
            Claim.of(
                "error",
                f"answers given that are wrong (target {settings.target:g})",
                wrong,
                True if wrong.high <= settings.target else False if wrong.low > settings.target else None,
            )
        )
    base = proportion([not y for y in right], clusters=clusters)
    claims.append(Claim.of("error_of_all", "answers that are wrong where all are given", base, None))
    if any(right) and not all(right):
        area = auroc(own, right)
        claims.append(
            Claim.of(
                "auroc", f"{NAMES[settings.by]} tells right answers from wrong (AUROC)", area, sign(area, 0.5)
            )
        )
        claims.append(
            Claim.of(
                "area",
                "answering the surest first lowers the mean risk (area under risk and coverage)",
                _gain(own, right),
                None,
            )
        )
    gain = paired_difference(
        [row["p_true"] for row in ranked], [row["any"] for row in ranked], clusters=clusters
    )
    claims.append(
        Claim.of("reranking", "choosing the sample of highest P(True) beats a random one", gain, sign(gain))
    )
    care = []
    if threshold.value == float("inf"):
        care.append(
            f"no threshold keeps wrong answers at {settings.target:g} for certain on {threshold.n} "
            "questions: nothing is answered. Raise --target, or give more questions"
        )
    return Report(
        f"What {name} knows, and when it answers",
        (
            f"{fitted} questions fitted the head, {threshold.n} found the threshold, {len(problems)} "
            "measured.",
        ),
        tuple(claims),
        tuple(care),
        (
            _thresholds(threshold, expected),
            _confidences(sure, problems, drawn, right),
            _ranking(ranked, clusters),
        ),
        (_curves(sure, problems, right),),
        (),
        counts,
        ("The guarantee is for new questions drawn as these were; of other questions it says nothing.",),
    )


def _gain(confidence: Sequence[float], right: Sequence[bool]) -> Estimate:
    """How far the area lies under that of no order at all; a bootstrap draws questions."""
    p, y = np.array(confidence), np.array(right)

    def fall(places: np.ndarray) -> float:
        drawn = places.astype(int)
        found = risk_coverage(p[drawn].tolist(), y[drawn].tolist())
        return found.random - found.area

    return bootstrap([float(place) for place in range(len(p))], fall, resamples=500)


def _thresholds(threshold: Threshold, expected: Threshold) -> Table:
    rows = tuple(
        (
            own.guarantee,
            "never answer" if own.value == float("inf") else number(own.value),
            number(own.coverage),
            number(own.error),
            str(own.n),
        )
        for own in (threshold, expected)
    )
    return Table(
        "Thresholds",
        ("guarantee", "answer from", "answered", "of them wrong", "questions"),
        rows,
        "On the questions that found them.",
    )


def _confidences(
    sure: dict[By, dict[int, float]],
    problems: Sequence[Problem],
    drawn: dict[int, SampledAnswers],
    right: Sequence[bool],
) -> Table:
    rows = []
    for by, name in NAMES.items():
        own = [sure[by][id(problem)] for problem in problems]  # type: ignore[index]
        area = interval(auroc(own, right)) if any(right) and not all(right) else "not measured"
        truth = [drawn[id(problem)].share for problem in problems]
        curve = risk_coverage(own, right)
        score = number(brier_score(own, truth if by == "p_ik" else [float(y) for y in right]))
        rows.append((name, area, score, number(curve.area), number(curve.oracle), number(curve.random)))
    columns = ("by", "AUROC", "Brier", "area under risk and coverage", "of a perfect order", "of none")
    return Table(
        "What could decide",
        columns,
        tuple(rows),
        "On the questions that measure. P(IK)'s Brier score is of the share of right samples.",
    )


def _ranking(ranked: Sequence[dict[str, float]], clusters: Sequence[str]) -> Table:
    names = {
        "p_true": "the sample of highest P(True)",
        "common": "the most common sample",
        "greedy": "the greedy answer",
        "any": "a random sample",
    }
    rows = tuple(
        (
            words,
            interval(proportion([row[kind] > 0 for row in ranked], clusters=clusters))
            if kind != "any"
            else number(float(np.mean([row["any"] for row in ranked]))),
        )
        for kind, words in names.items()
    )
    return Table("Choosing among samples", ("choice", "right"), rows)


def _curves(sure: dict[By, dict[int, float]], problems: Sequence[Problem], right: Sequence[bool]) -> Figure:
    lines = []
    for by, name in NAMES.items():
        found = risk_coverage([sure[by][id(problem)] for problem in problems], right)  # type: ignore[index]
        lines.append(Line(name, found.coverage, found.risk))
    return Figure(
        "Risk and coverage", "share of questions answered, surest first", "share of them wrong", tuple(lines)
    )

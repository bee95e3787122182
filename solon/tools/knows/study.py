"""What `solon knows` does: fit P(IK) on a person's own questions, find a threshold whose error rate is
guaranteed, and answer selectively.

Questions are split by cluster: half fit the head, a quarter finds the threshold, a quarter measures what came
of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

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
from solon.evaluation.selective import Threshold, certified_threshold, conformal_threshold
from solon.evaluation.self_knowledge import (
    SampledAnswers,
    p_true,
    propose_answer,
    sample_answers,
    samples_from_row,
)
from solon.models.base import derive
from solon.models.torch_model import TorchModel
from solon.records.codecs import PLAIN, Codec
from solon.records.report import Report
from solon.records.run import Run
from solon.tools.knows.knower import Knower, confidences, save
from solon.tools.knows.report import Measured, Ranked, report
from solon.tools.knows.settings import NAMES, By, Settings
from solon.training.fit import steps_for
from solon.training.optimiser import Plan
from solon.training.steps import State, Step
from solon.words.question import Problem

FEWEST = 40  # questions to fit, to certify and to measure
SAMPLED: Codec[Problem, SampledAnswers] = Codec(lambda problem, answers: asdict(answers), samples_from_row)
RANKED: Codec[tuple[Problem, SampledAnswers], Ranked] = Codec(
    lambda pair, ranked: asdict(ranked),
    lambda row: Ranked(row["p_true"], row["common"], row["greedy"], row["any"]),
)


@dataclass(frozen=True, slots=True)
class Split:
    """Questions that fit the head, that find the threshold, and that measure; none shares a cluster."""

    fit: list[Problem]
    certify: list[Problem]
    measure: list[Problem]


def study(
    run: Run, settings: Settings, model: TorchModel, problems: Sequence[Problem], counts: Mapping[str, int]
) -> Report:
    """Fit, certify, measure, and keep the model with its head in RUN/model.

    Raises InputError where fewer than 40 questions are left beside the examples.
    """
    order = sorted(problems, key=lambda problem: derive(run.seed, "order", problem.text))
    examples, kept = order[: settings.shots], order[settings.shots :][: settings.limit or None]
    if len(kept) < FEWEST:
        raise InputError(
            f"{len(kept)} questions are left beside {settings.shots} examples; at least {FEWEST} are "
            "needed to "
            "fit, to certify and to measure"
        )
    split = split_by_cluster(kept, run.seed)

    def sample(batch: Sequence[Problem]) -> list[SampledAnswers]:
        return sample_answers(model, batch, examples=examples, samples=settings.samples, seed=run.seed)

    answers = dict(zip(map(id, kept), run.map("samples", kept, sample, SAMPLED, size=16), strict=True))
    shares = [answers[id(problem)].share for problem in split.fit]
    head = fit_head(run, settings, model, split.fit, shares, examples)

    # the confidence in every greedy answer by each of three, and a threshold for the one that is asked for
    sure: dict[By, dict[int, float]] = {}
    for by in NAMES:

        def make(batch: Sequence[Problem], by: By = by) -> list[float]:
            samples = [answers[id(problem)] for problem in batch]
            return confidences(by, model, head, batch, samples, examples=examples, ideas=settings.ideas)

        values = run.map(f"confidence_{by}", kept, make, PLAIN, size=64)
        sure[by] = dict(zip(map(id, kept), values, strict=True))
    certified, expected = thresholds(run.seed, settings, split, sure[settings.by], answers)
    knower = Knower(model, head, certified, settings.by, settings.ideas, tuple(examples), run.seed)
    run.artefact("model", lambda folder: save(knower, settings, folder))

    measured = Measured(
        clusters=[problem.cluster or problem.text for problem in split.measure],
        right=[answers[id(problem)].greedy_right is True for problem in split.measure],
        shares=[answers[id(problem)].share for problem in split.measure],
        confidence={by: [values[id(problem)] for problem in split.measure] for by, values in sure.items()},
        ranked=rerank(
            run, model, [(problem, answers[id(problem)]) for problem in split.measure], settings.ideas
        ),
    )
    return report(settings, model.name, measured, certified, expected, fitted=len(split.fit), counts=counts)


def fit_head(
    run: Run,
    settings: Settings,
    model: TorchModel,
    problems: Sequence[Problem],
    shares: Sequence[float],
    examples: Sequence[Problem],
) -> KnowledgeModel:
    """P(IK) from the share of right samples of each question; a probe is solved, other methods are
    trained.
    """
    head = build_knowledge_model(
        model, settings.method, depth=settings.depth, rank=settings.rank, seed=derive(run.seed, "head")
    )
    rows = label_questions(head, problems, shares, examples=examples)
    steps = (
        steps_for(len(rows), size=settings.batch, epochs=settings.epochs) if settings.method != "probe" else 0
    )

    def loop(fresh: KnowledgeModel, state: State | None) -> Iterator[Step]:
        if state is None:
            init_head(fresh, rows)
        plan = Plan(steps, settings.learning_rate, warmup=min(5, steps), schedule="linear")
        seed = derive(run.seed, "P(IK)")
        return fit_knowledge_model(
            fresh, rows, plan=plan, size=settings.batch, seed=seed, state=state, world=run.world
        )

    return run.trained("head", head, loop, steps=steps)


def thresholds(
    seed: int,
    settings: Settings,
    split: Split,
    sure: Mapping[int, float],
    answers: Mapping[int, SampledAnswers],
) -> tuple[Threshold, Threshold]:
    """A threshold that keeps the error rate with a stated certainty, and one that keeps it in expectation."""
    certify = one_a_cluster(split.certify, seed)  # the exact test is of independent questions
    confidence = [sure[id(problem)] for problem in certify]
    right = [answers[id(problem)].greedy_right is True for problem in certify]
    # without their answers; a head is surer of what it was fitted on
    reference = [sure[id(problem)] for problem in split.measure]
    return (
        certified_threshold(
            confidence, right, target=settings.target, reference=reference, failure=settings.failure
        ),
        conformal_threshold(confidence, right, target=settings.target),
    )


def split_by_cluster(problems: Sequence[Problem], seed: int) -> Split:
    """Half, a quarter and a quarter, by cluster."""
    sides: tuple[list[Problem], list[Problem], list[Problem]] = ([], [], [])
    for problem in problems:
        sides[(0, 0, 1, 2)[derive(seed, "part", problem.cluster or problem.text) % 4]].append(problem)
    return Split(*sides)


def one_a_cluster(problems: Sequence[Problem], seed: int) -> list[Problem]:
    """One question of each cluster, drawn by content."""
    kept: dict[str, Problem] = {}
    for problem in sorted(problems, key=lambda problem: derive(seed, "one", problem.text)):
        kept.setdefault(problem.cluster or problem.text, problem)
    return list(kept.values())


def shown_with(answers: SampledAnswers, index: int, ideas: int) -> list[str]:
    """The judged sample and as many others as are shown beside it, none twice."""
    others = [text for number, text in enumerate(answers.texts) if number != index]
    return [answers.texts[index], *others[: ideas - 1]] if ideas else []


def rerank(
    run: Run, model: TorchModel, pairs: Sequence[tuple[Problem, SampledAnswers]], ideas: int
) -> list[Ranked]:
    """Of each question: whether the sample of highest P(True) is right, the most common one, the greedy one,
    and the share of all that are. Samples that say the same are judged once.
    """

    def make(batch: Sequence[tuple[Problem, SampledAnswers]]) -> list[Ranked]:
        firsts = [distinct(problem, answers.texts) for problem, answers in batch]
        proposals = [
            propose_answer(problem, answers.texts[index], right=None, ideas=shown_with(answers, index, ideas))
            for (problem, answers), indices in zip(batch, firsts, strict=True)
            for index in indices
        ]
        judged = iter(choice_outcomes(model, proposals))
        ranked = []
        for (problem, answers), indices in zip(batch, firsts, strict=True):
            best = -max((p_true(next(judged)), -index) for index in indices)[1]
            lines = [extract_answer(problem, text) for text in answers.texts]
            # nothing said has no vote
            common = lines.index(max(filter(None, lines), key=lines.count, default=lines[0]))
            ranked.append(
                Ranked(
                    p_true=float(answers.right[best] is True),
                    common=float(answers.right[common] is True),
                    greedy=float(answers.greedy_right is True),
                    any=answers.share,
                )
            )
        return ranked

    return run.map("reranked", pairs, make, RANKED, key=lambda pair: pair[0].key, size=16)


def distinct(problem: Problem, texts: Sequence[str]) -> list[int]:
    """The index of the first sample of each different answer."""
    by_answer = {extract_answer(problem, text): index for index, text in reversed(list(enumerate(texts)))}
    return list(by_answer.values())

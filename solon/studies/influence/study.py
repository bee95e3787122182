"""Studying Large Language Model Generalization with Influence Functions (Grosse et al. 2023,
arXiv:2308.03296), top to bottom, where the truth can be known.

A network on digits: every approximation against the proximal response and against training again. A small
language model: influences add up over layers and tokens, low-rank queries lose little, a row that repeats the
query comes first, and what words alone would have found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from solon.records.codecs import PLAIN
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.influence.inputs import Options
from solon.studies.influence.ladder import (
    approximate,
    correlations,
    datamodelling_scores,
    draw_digits,
    half_of_rows,
    proximal_responses,
    retrain,
    train_network,
)
from solon.studies.influence.report import NetworkResults, report
from solon.studies.influence.settings import Settings, full, quick
from solon.studies.influence.small_language import language_results
from solon.study.conduct import NoInputs, Study


def study(run: Run, settings: Settings, inputs: NoInputs) -> Report:
    """Networks on digits, each against the truth, then the identities of a language model's influences. What
    takes long is kept.
    """
    networks = [network_results(run, number, settings) for number in range(settings.seeds)]
    language = language_results(
        run.seed, sequences=settings.sequences, queries=settings.queries, ranks=settings.ranks
    )
    return report(settings, networks, language)


def network_results(run: Run, number: int, settings: Settings) -> NetworkResults:
    """One network: its approximations against the response and against training again."""
    data = draw_digits(run.seed + number, rows=settings.rows, questions=settings.questions)
    network = train_network(data.inputs_NC, data.labels_N, seed=run.seed + number)
    approximations = approximate(network, data)

    def solve(rows: Sequence[int]) -> list[list[float]]:
        responses: list[list[float]] = proximal_responses(approximations, data, rows).T.tolist()
        return responses

    points = range(settings.points)
    responses = run.map(f"responses_{number}", points, solve, PLAIN, key=str, size=5)
    target_QN = np.array(responses).T

    halves = [half_of_rows(data, run.seed + number, subset) for subset in range(settings.subsets)]

    def train(subsets: Sequence[int]) -> list[list[float]]:
        return [retrain(data, halves[subset], seed=subset, starts=settings.starts) for subset in subsets]

    retrained = run.map(f"trained_again_{number}", range(settings.subsets), train, PLAIN, key=str, size=5)
    scores = approximations.scores
    return NetworkResults(
        block_errors=approximations.block_errors,
        response={
            name: correlations(scores_QN[:, : settings.points], target_QN)
            for name, scores_QN in scores.items()
        },
        retraining={
            name: datamodelling_scores(scores_QN, halves, np.array(retrained))
            for name, scores_QN in scores.items()
        },
    )


STUDY = Study(
    name="influence",
    options=Options,
    quick=quick,
    full=full,
    inputs=lambda options: NoInputs(),
    study=study,
    subject=lambda inputs: "digits",
)

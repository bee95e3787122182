"""Toy Models of Superposition (Elhage et al. 2022, arXiv:2209.10652), all of its sections, each held against
what is known of it.

Every model is trained apart from the others, in processes of one thread; what each ended on is kept, and gone
on from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solon.models.base import derive
from solon.pool.workers import process_pool
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.superposition.geometry import attacked_error
from solon.studies.superposition.inputs import Options
from solon.studies.superposition.report import Attack, report
from solon.studies.superposition.settings import Settings, full, quick
from solon.studies.superposition.toy_model import (
    Plan,
    Relation,
    ToyModels,
    draw_inputs,
    geometric,
    train,
    train_absolute,
)
from solon.study.conduct import NoInputs, Study


@dataclass(frozen=True, slots=True)
class Job:
    """Models that are trained for a section of the report."""

    section: str
    plan: Plan

    @property
    def key(self) -> str:
        return f"{self.section} {derive(0, self.plan)}"

    @property
    def cost(self) -> float:
        """About how long it takes, in no unit."""
        plan = self.plan
        return plan.instances * plan.batch * plan.features * (plan.hidden + 8) * plan.steps


def study(run: Run, settings: Settings, inputs: NoInputs) -> Report:
    """All models are trained, each of its section; those of the geometry are attacked."""
    jobs = [
        *introduction(run.seed, settings),
        *geometry(run.seed, settings),
        *tied(run.seed, settings),
        *diagrams(run.seed, settings),
        *absolute(run.seed, settings),
    ]
    models = train_all(run, jobs, workers=settings.workers)
    attacks = run.once(
        "attacks", lambda: [asdict(attack(model, settings.radius)) for model in models["geometry"]]
    )
    return report(settings, models, [Attack(**row) for row in attacks])


def train_all(run: Run, jobs: Sequence[Job], *, workers: int) -> dict[str, list[ToyModels]]:
    """What every job ends on, by section, the densest first."""
    order = sorted(jobs, key=lambda job: -job.cost)  # the longest first: none is left over at the end
    pool = process_pool(workers, threads=1) if workers > 1 else None
    rows = run.stream("models", order, lambda job: job.key, train_rows, total=len(order), size=1, pool=pool)
    models: dict[str, list[ToyModels]] = {}
    for job, row in zip(order, rows, strict=True):
        models.setdefault(job.section, []).append(from_row(job.plan, row))
    return {
        section: sorted(trained, key=lambda model: -model.plan.density) for section, trained in models.items()
    }


def train_rows(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """What training leaves of each job, as a row."""
    return [
        to_row(train_absolute(job.plan) if job.section == "absolute" else train(job.plan)) for job in jobs
    ]


def to_row(models: ToyModels) -> dict[str, Any]:
    """Models as JSON."""
    return {
        "weights": _rounded(models.weights_KNM),
        "bias": _rounded(models.bias_KN),
        "loss": models.loss,
        "steps": models.steps,
        "snapshots": _rounded(models.snapshots_SKNM),
    }


def from_row(plan: Plan, row: Mapping[str, Any]) -> ToyModels:
    """Models as they were kept."""
    return ToyModels(
        plan,
        torch.tensor(row["weights"]),
        torch.tensor(row["bias"]),
        tuple(row["loss"]),
        tuple(row["steps"]),
        torch.tensor(row["snapshots"], dtype=torch.float64),
    )


def _rounded(tensor: Tensor) -> Any:
    """Numbers of seven digits: JSON would have seventeen."""
    return np.round(tensor.double().numpy(), 7).tolist()


def attack(models: ToyModels, radius: float) -> Attack:
    """A model's squared error on inputs as they come, and moved to where it is worst."""
    generator = torch.Generator().manual_seed(derive(models.plan.seed, "attack"))
    x_BN = draw_inputs(models.plan, 1, 256, generator)[0]
    plain, worst = (
        attacked_error(models.weights_KNM[0], models.bias_KN[0], x_BN, radius=distance)
        for distance in (0.0, radius)
    )
    return Attack(plain, worst)


def densities(levels: int) -> list[float]:
    """From 1 to 1/20, evenly in the logarithm."""
    return [20 ** (-level / (levels - 1)) for level in range(levels)]


def introduction(seed: int, settings: Settings) -> Iterator[Job]:
    """Five features of falling importance in two dimensions, ten densities, with the ReLU and without."""
    for level, density in enumerate(densities(10)):
        plan = Plan(
            5,
            2,
            density,
            (geometric(0.9, 5),),
            instances=settings.restarts,
            seed=derive(seed, "introduction", level),
            steps=settings.steps,
            batch=settings.batch,
        )
        yield Job("introduction", plan)
        if level in (0, 9):
            yield Job("linear", replace(plan, linear=True))


def geometry(seed: int, settings: Settings) -> Iterator[Job]:
    """Features of one importance at every density."""
    for level, density in enumerate(densities(settings.levels)):
        plan = Plan(
            settings.features,
            settings.hidden,
            density,
            ((1.0,) * settings.features,),
            seed=derive(seed, "geometry", level),
            steps=settings.steps,
            batch=settings.batch,
        )
        yield Job("geometry", plan)


def tied(seed: int, settings: Settings) -> Iterator[Job]:
    """Two pairs of features in two dimensions, tied one way or the other; and twenty alike, watched as they
    learn.
    """
    relations: tuple[Relation, ...] = ("correlated", "anticorrelated", "independent")
    for relation in relations:
        plan = Plan(
            4,
            2,
            0.1,
            ((1.0,) * 4,),
            instances=4 * settings.restarts,
            seed=derive(seed, "tied", relation),
            steps=settings.phase_steps,
            batch=settings.batch,
            relation=relation,
        )
        yield Job(relation, plan)
    watched = Plan(
        20,
        3,
        0.05,
        ((1.0,) * 20,),
        instances=settings.restarts,
        seed=derive(seed, "watched"),
        steps=settings.steps,
        batch=settings.batch,
        kept=100,
    )
    yield Job("watched", watched)


def diagrams(seed: int, settings: Settings) -> Iterator[Job]:
    """Two features in one dimension and three in two: every importance of the last, from 1/10 of the others'
    to 10 times as much, at each density from 1 to 1/100, each from several starts.
    """
    for name, features in (("phases", 2), ("phases_of_three", 3)):
        others = (1.0,) * (features - 1)
        # three features pair off in three ways, and stay as they began to
        starts = settings.restarts * (features - 1)
        importances = map(float, np.logspace(-1, 1, settings.cells))
        rows = tuple((*others, importance) for importance in importances for _ in range(starts))
        for level, density in enumerate(map(float, np.logspace(0, -2, settings.cells))):
            plan = Plan(
                features,
                features - 1,
                density,
                rows,
                instances=len(rows),
                seed=derive(seed, name, level),
                steps=settings.phase_steps,
                batch=256,
                learning_rate=3e-3,
            )
            yield Job(name, plan)


def absolute(seed: int, settings: Settings) -> Iterator[Job]:
    """Absolute values by ReLU neurons, dense to sparse."""
    size = settings.absolute_features
    for level, density in enumerate((1.0, 0.3, 0.1, 0.03, 0.01)):
        plan = Plan(
            size,
            size,
            density,
            (geometric(0.8, size),),
            seed=derive(seed, "absolute", level),
            steps=settings.absolute_steps,
            batch=256,
            learning_rate=3e-3,
        )
        yield Job("absolute", plan)


STUDY = Study(
    name="superposition",
    options=Options,
    quick=quick,
    full=full,
    inputs=lambda options: NoInputs(),
    study=study,
    subject=lambda inputs: "toy models",
)

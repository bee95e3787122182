"""Toy Models of Superposition (Elhage et al. 2022, arXiv:2209.10652), all of its sections, each held against
what is known of it.

Every model is trained apart from the others, in processes of one thread; what each ended on is kept, and gone
on from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solon.errors import InputError
from solon.models.base import derive
from solon.pool.workers import process_pool
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.superposition.geometry import attacked
from solon.studies.superposition.report import report
from solon.studies.superposition.results import Findings, Model
from solon.studies.superposition.toy_model import (
    Plan,
    Relation,
    Trained,
    drawn,
    geometric,
    train,
    train_absolute,
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    features: int = 200
    """of the models whose geometry is looked at"""
    hidden: int = 20
    levels: int = 20
    """densities from 1 down to a twentieth, evenly spaced in their logarithm"""
    steps: int = 10_000
    batch: int = 1024
    cells: int = 12
    """of each phase diagram, on each side"""
    restarts: int = 8
    """of each of its cells, the best of which counts (twice as many where features are three); also of the
    models of the introduction
    """
    phase_steps: int = 4000
    absolute_features: int = 20
    """of the models that compute absolute values, with as many neurons"""
    absolute_steps: int = 6000
    radius: float = 0.1
    """of an attack on inputs"""
    workers: int = 2
    """processes, of one thread each"""

    def __post_init__(self) -> None:
        if (
            self.features <= self.hidden
            or self.levels < 4
            or self.cells < 4
            or min(self.restarts, self.steps, self.phase_steps, self.absolute_steps, self.workers) < 1
        ):
            raise InputError(
                "there are more features than hidden dimensions, at least 4 levels and 4 cells, and "
                "restarts, steps and workers are at least 1"
            )
        if self.radius <= 0 or self.absolute_features < 4 or self.steps < 100:
            raise InputError(
                "an attack's radius is above 0, absolute values are of at least 4 features, and steps at "
                "least 100"
            )


def quick() -> Settings:
    """All sections in minutes on two cores."""
    return Settings(batch=512, phase_steps=3000, restarts=6, absolute_steps=3000)


def full() -> Settings:
    """The authors' notebook's numbers."""
    return Settings()


def study(run: Run, settings: Settings) -> Report:
    """All of it."""
    jobs = [
        *introduction(run, settings),
        *geometry(run, settings),
        *tied(run, settings),
        *diagrams(run, settings),
        *absolute(run, settings),
    ]
    order = sorted(jobs, key=lambda job: -cost(job[1]))  # the longest first: none is left over at the end
    pool = process_pool(settings.workers, threads=1) if settings.workers > 1 else None
    rows = run.stream(
        "models",
        order,
        lambda job: f"{job[0]} {derive(0, job)}",
        learned,
        total=len(order),
        size=1,
        pool=pool,
    )
    models = [
        Model(
            name,
            plan,
            torch.tensor(row["weights"]),
            torch.tensor(row["bias"]),
            row["loss"],
            row["steps"],
            row["way"],
        )
        for (name, plan), row in zip(order, rows, strict=True)
    ]
    found = Findings(
        {
            name: [own for own in models if own.name == name]
            for name in dict.fromkeys(own.name for own in models)
        }
    )
    levels = sorted(found.models["geometry"], key=lambda own: -own.plan.density)
    found.attacks = run.once("attacks", lambda: [attack(own, settings) for own in levels])
    return report(asdict(settings), found)


Job = tuple[str, Plan]


def cost(plan: Plan) -> float:
    return plan.instances * plan.batch * plan.features * (plan.hidden + 8) * plan.steps


def learned(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """What training leaves of each job, as a row."""
    rows = []
    for name, plan in jobs:
        own: Trained = train_absolute(plan) if name == "absolute" else train(plan)
        rows.append(
            {
                "weights": rounded(own.weights_KNM),
                "bias": rounded(own.bias_KN),
                "loss": own.loss_K.tolist(),
                "steps": list(own.steps),
                "way": rounded(own.way_SKNM),
            }
        )
    return rows


def rounded(own: Tensor) -> Any:
    """Numbers of seven digits: JSON would have seventeen."""
    return np.round(own.double().numpy(), 7).tolist()


def densities(levels: int) -> list[float]:
    """From 1 to 1/20, evenly in the logarithm."""
    return [20 ** (-level / (levels - 1)) for level in range(levels)]


def introduction(run: Run, settings: Settings) -> list[Job]:
    """Five features of falling importance in two dimensions, ten densities, with the ReLU and without."""
    found = []
    for level, density in enumerate(densities(10)):
        plan = Plan(
            5,
            2,
            density,
            (geometric(0.9, 5),),
            instances=settings.restarts,
            seed=derive(run.seed, "introduction", level),
            steps=settings.steps,
            batch=settings.batch,
        )
        found.append(("introduction", plan))
        if level in (0, 9):
            found.append(("linear", replace(plan, linear=True)))
    return found


def geometry(run: Run, settings: Settings) -> list[Job]:
    """Features of one importance at every density."""
    ones = ((1.0,) * settings.features,)
    return [
        (
            "geometry",
            Plan(
                settings.features,
                settings.hidden,
                density,
                ones,
                seed=derive(run.seed, "geometry", level),
                steps=settings.steps,
                batch=settings.batch,
            ),
        )
        for level, density in enumerate(densities(settings.levels))
    ]


def tied(run: Run, settings: Settings) -> list[Job]:
    """Two pairs of features in two dimensions, tied one way or the other; and five alike, watched as they
    learn.
    """
    made: list[Job] = []
    relations: tuple[Relation, ...] = ("correlated", "anticorrelated", "independent")
    for relation in relations:
        seed = derive(run.seed, "tied", relation)
        plan = Plan(
            4,
            2,
            0.1,
            ((1.0,) * 4,),
            instances=4 * settings.restarts,
            seed=seed,
            steps=settings.phase_steps,
            batch=settings.batch,
            relation=relation,
        )
        made.append((relation, plan))
    watched = Plan(
        20,
        3,
        0.05,
        ((1.0,) * 20,),
        instances=settings.restarts,
        seed=derive(run.seed, "watched"),
        steps=settings.steps,
        batch=settings.batch,
        kept=100,
    )
    return [*made, ("watched", watched)]


def importances(cells: int) -> list[float]:
    """Of the last feature over the others, from 1/10 to 10."""
    return [float(own) for own in np.logspace(-1, 1, cells)]


def chances(cells: int) -> list[float]:
    """Densities from 1 to 1/100."""
    return [float(own) for own in np.logspace(0, -2, cells)]


def diagrams(run: Run, settings: Settings) -> list[Job]:
    """Two features in one dimension and three in two: every importance of the last at each density, each from
    several starts.
    """
    jobs: list[Job] = []
    for name, features in (("phases", 2), ("phases_of_three", 3)):
        others = (1.0,) * (features - 1)
        # three features pair off in three ways, and stay as they began to
        starts = settings.restarts * (features - 1)
        rows = tuple((*others, own) for own in importances(settings.cells) for _ in range(starts))
        for level, density in enumerate(chances(settings.cells)):
            seed = derive(run.seed, name, level)
            plan = Plan(
                features,
                features - 1,
                density,
                rows,
                instances=len(rows),
                seed=seed,
                steps=settings.phase_steps,
                batch=256,
                learning_rate=3e-3,
            )
            jobs.append((name, plan))
    return jobs


def absolute(run: Run, settings: Settings) -> list[Job]:
    """Absolute values by ReLU neurons, dense to sparse."""
    size = settings.absolute_features
    return [
        (
            "absolute",
            Plan(
                size,
                size,
                density,
                (geometric(0.8, size),),
                seed=derive(run.seed, "absolute", level),
                steps=settings.absolute_steps,
                batch=256,
                learning_rate=3e-3,
            ),
        )
        for level, density in enumerate((1.0, 0.3, 0.1, 0.03, 0.01))
    ]


def attack(own: Model, settings: Settings) -> dict[str, float]:
    """A model's squared error on inputs as they come, and moved to where it is worst."""
    x_BN = drawn(own.plan, 1, 256, torch.Generator().manual_seed(derive(own.plan.seed, "attack")))[0]
    plain, worst = (
        attacked(own.weights_KNM[0], own.bias_KN[0], x_BN, radius=radius) for radius in (0.0, settings.radius)
    )
    return {"density": own.plan.density, "plain": plain, "worst": worst}

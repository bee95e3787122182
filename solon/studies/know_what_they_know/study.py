"""Language Models (Mostly) Know What They Know (Kadavath et al. 2022, arXiv:2207.05221), top to bottom.

Multiple choice and what changes its calibration; True or False; one temperature for all; P(True) of own
samples, alone and after brainstorming; P(IK) before any answer, across tasks, behind hints, and between
models; and the baselines that both should beat.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from solon.errors import InputError
from solon.evaluation.knowledge import (
    KnowledgeModel,
    build_knowledge_model,
    fit_knowledge_model,
    hard_labels,
    init_head,
    label_questions,
)
from solon.evaluation.measure import Outcome, choice_outcomes
from solon.evaluation.self_knowledge import (
    SampledAnswers,
    fixed_examples,
    has_none_option,
    hidden_options,
    none_of_the_above,
    propose_sample,
    sample_answers,
    samples_from_row,
    true_or_false,
    with_source,
)
from solon.models.base import derive
from solon.models.torch_model import TorchModel
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.know_what_they_know.report import report
from solon.studies.know_what_they_know.results import Findings, Judgement
from solon.studies.know_what_they_know.settings import Inputs, Settings, Task
from solon.study.outcomes import form_of_dialogue, key_of, read, row_of
from solon.study.stages import slug
from solon.training.fit import steps_for
from solon.training.optimiser import Plan
from solon.training.steps import State, Step
from solon.words.question import Problem


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """All of it; every stage is kept, and gone on from."""
    found = Findings(counts=dict(inputs.counts), threshold=settings.threshold)
    models = {model.name: spoken(model, settings) for model in inputs.models}
    main, *others = models.values()

    # 1. multiple choice: the options, the last of them "none of the above", and each answer proposed by
    # itself
    for name, problems in inputs.choices:
        usable = [own for own in problems if not has_none_option(own)]
        found.counts[f"{name}: problems that have none of the above already, left out"] = len(problems) - len(
            usable
        )
        examples, kept = chosen(usable, settings.choice_shots, settings.choices, run.seed)
        for variant, put in variants(kept, settings, run.seed).items():
            found.choices[name, variant] = scored(
                run, f"choice {name} {variant}", main, put, put_examples(examples, variant, settings)
            )
        if inputs.temper is not None:
            put = variants(kept, settings, run.seed)["as given"]
            found.tempered[name] = scored(
                run,
                f"temper {name}",
                spoken(inputs.temper, settings),
                put,
                put_examples(examples, "as given", settings),
            )

    # 2. samples of every question from every model, and whether they are right
    asked: dict[str, tuple[list[Problem], list[Problem]]] = {}
    for task in inputs.tasks:
        asked[task.name] = chosen(task.problems, settings.shots, settings.questions, run.seed)
        for name, model in models.items():
            found.drawn[task.name, name] = samples(run, task.name, model, *asked[task.name], settings)
    found.problems = {name: kept for name, (_, kept) in asked.items()}

    # 3. P(True): one sample of each question judged by its own model, alone and after brainstorming, in each
    # kind of prompt; then crossed
    for task in inputs.tasks:
        for kind, ideas in kinds_of_prompt(settings, inputs):
            found.judged[task.name, kind, ideas] = judgements(
                run, task.name, main, main, kind, ideas, found, settings
            )
        for speaker in models.values():
            for judge in models.values() if others else ():
                crossed = judgements(
                    run,
                    task.name,
                    speaker,
                    judge,
                    kinds_of_prompt(settings, inputs)[-1][0],
                    settings.ideas,
                    found,
                    settings,
                )
                found.crossed[task.name, speaker.name, judge.name] = crossed

    # 4. P(IK): a head on half of the questions of one task, and one on half of all; measured on the other
    # halves
    for name, model in models.items():
        taught = {
            "all tasks": [task.name for task in inputs.tasks],
            f"{inputs.tasks[0].name} alone": [inputs.tasks[0].name],
        }
        for words, tasks in taught.items() if len(inputs.tasks) > 1 else [("all tasks", taught["all tasks"])]:
            if model is main or words == "all tasks":
                head = knowledge(run, f"{name} {words}", model, tasks, asked, found, settings)
                for task in inputs.tasks:
                    found.known[task.name, name, words] = held_out(
                        run, f"known {task.name} {name} {words}", head, task, asked, found
                    )
                    if model is main and words == "all tasks":
                        found.sourced[task.name] = behind_sources(
                            run, head, model, task, asked, found, settings
                        )
    return report(asdict(settings), found, inputs)


def spoken(model: TorchModel, settings: Settings) -> TorchModel:
    return model.plain() if form_of_dialogue(model, settings.form) == "text" else model


def chosen(
    problems: Sequence[Problem], shots: int, count: int, seed: int
) -> tuple[list[Problem], list[Problem]]:
    """(worked examples, problems), drawn by content: which they are does not depend on the others' order."""
    order = sorted(problems, key=lambda own: derive(seed, "order", own.text, *own.options))
    if len(order) - shots < 16:
        raise InputError(
            f"{len(order)} problems leave {max(len(order) - shots, 0)} beside {shots} examples; at least "
            "16 are needed"
        )
    return order[:shots], order[shots : shots + count]


def variants(problems: Sequence[Problem], settings: Settings, seed: int) -> dict[str, list[Problem]]:
    """The same problems in three ways."""
    given = [hidden_options(own) for own in problems] if settings.hidden_options else list(problems)
    pairs = [half for own in problems for half in true_or_false(own, seed=seed)]
    return {
        "as given": given,
        "none of the above": [none_of_the_above(own) for own in given],
        "true or false": pairs,
    }


def put_examples(examples: Sequence[Problem], variant: str, settings: Settings) -> list[Problem]:
    """Worked examples in the same way as the problems; half of them, in turn, are replaced or false where
    that is the way.
    """
    given = [hidden_options(own) for own in examples] if settings.hidden_options else list(examples)
    if variant == "none of the above":
        return [none_of_the_above(own) for own in given]
    return (
        [true_or_false(own, seed=0)[place % 2] for place, own in enumerate(examples)]
        if variant == "true or false"
        else given
    )


def scored(
    run: Run, name: str, model: TorchModel, problems: Sequence[Problem], examples: Sequence[Problem]
) -> list[Outcome]:
    """Outcomes, kept as rows."""
    rows = run.rows(
        slug(name),
        problems,
        key_of,
        lambda some: [row_of(own) for own in choice_outcomes(model, some, examples=examples)],
        size=256,
    )
    return [own for own in map(read, rows) if isinstance(own, Outcome)]


def samples(
    run: Run,
    task: str,
    model: TorchModel,
    examples: Sequence[Problem],
    problems: Sequence[Problem],
    settings: Settings,
) -> list[SampledAnswers]:
    """What a model says to each question, kept as rows."""

    def make(some: Sequence[Problem]) -> list[dict[str, Any]]:
        return [
            asdict(own)
            for own in sample_answers(
                model, some, examples=examples, samples=settings.samples, seed=derive(run.seed, task)
            )
        ]

    rows = run.rows(slug(f"samples {task} {model.name}"), problems, key_of, make, size=16)
    return [samples_from_row(row) for row in rows]


def kinds_of_prompt(settings: Settings, inputs: Inputs) -> list[tuple[str, int]]:
    """(kind of prompt, ideas shown): no example, our fixed ten, and examples from the task itself."""
    kinds = [
        "no example",
        *(["fixed prompt"] if inputs.fixed_prompt else []),
        *(["examples of the task"] if settings.judged_shots else []),
    ]
    return [(kind, ideas) for kind in kinds for ideas in (0, settings.ideas)]


def judgements(
    run: Run,
    task: str,
    speaker: TorchModel,
    judge: TorchModel,
    kind: str,
    ideas: int,
    found: Findings,
    settings: Settings,
) -> list[Judgement]:
    """One sample of each question, judged. The questions that examples are made of are not judged, in any
    kind of prompt.
    """
    problems, drawn = found.problems[task], found.drawn[task, speaker.name]
    pairs = [
        propose_sample(problem, own, ideas=ideas, seed=run.seed)
        for problem, own in zip(problems, drawn, strict=True)
    ]
    shown = settings.judged_shots if len(pairs) > settings.judged_shots else 0
    examples = (
        [put for put, _ in pairs[:shown]]
        if kind == "examples of the task"
        else fixed_examples(ideas=ideas > 0)
        if kind == "fixed prompt"
        else []
    )
    rows = scored(
        run,
        f"judged {task} {speaker.name} {judge.name} {kind} {ideas}",
        judge,
        [put for put, _ in pairs[shown:]],
        examples,
    )
    return [
        Judgement(row, problem.text, place)
        for row, problem, (_, place) in zip(rows, problems[shown:], pairs[shown:], strict=True)
    ]


def halves(problems: Sequence[Problem], seed: int) -> tuple[list[int], list[int]]:
    """Places to learn from and places to measure on: by the question's cluster, before any sample is a row,
    so that nothing leaks.
    """
    sides: tuple[list[int], list[int]] = ([], [])
    for place, problem in enumerate(problems):
        sides[derive(seed, "half", problem.cluster or problem.text) % 2].append(place)
    return sides


def knowledge(
    run: Run,
    name: str,
    model: TorchModel,
    tasks: Sequence[str],
    asked: dict[str, tuple[list[Problem], list[Problem]]],
    found: Findings,
    settings: Settings,
) -> KnowledgeModel:
    """P(IK) of a model, learned from the first halves of some tasks."""
    bare = build_knowledge_model(
        model, settings.method, depth=settings.depth, rank=settings.rank, seed=derive(run.seed, "head")
    )
    rows = []
    for task in tasks:
        examples, problems = asked[task]
        kept = halves(problems, run.seed)[0]
        shares = [found.drawn[task, model.name][place].share for place in kept]
        rows += label_questions(bare, [problems[place] for place in kept], shares, examples=examples)
    taught = hard_labels(rows, settings.samples) if settings.hard_copies else rows
    steps = (
        0
        if settings.method == "probe"
        else steps_for(len(taught), size=settings.batch, epochs=settings.epochs)
    )

    def loop(head: KnowledgeModel, state: State | None) -> Iterator[Step]:
        if state is None:
            init_head(head, rows)
        plan = Plan(steps, settings.learning_rate, warmup=min(5, steps), schedule="linear")
        return fit_knowledge_model(
            head,
            taught,
            plan=plan,
            size=settings.batch,
            seed=derive(run.seed, name),
            state=state,
            world=run.world,
        )

    return run.trained(slug(f"P(IK) {name}"), bare, loop, steps=steps)


def held_out(
    run: Run,
    name: str,
    head: KnowledgeModel,
    task: Task,
    asked: dict[str, tuple[list[Problem], list[Problem]]],
    found: Findings,
) -> dict[int, float]:
    """P(IK) of the questions that it did not learn from, by place."""
    examples, problems = asked[task.name]
    kept = halves(problems, run.seed)[1]
    rows = run.rows(
        slug(name),
        [problems[place] for place in kept],
        key_of,
        lambda some: [{"p": own} for own in head(some, examples=examples)],
        size=128,
    )
    return {place: row["p"] for place, row in zip(kept, rows, strict=True)}


def behind_sources(
    run: Run,
    head: KnowledgeModel,
    model: TorchModel,
    task: Task,
    asked: dict[str, tuple[list[Problem], list[Problem]]],
    found: Findings,
    settings: Settings,
) -> list[tuple[list[float], list[float]]]:
    """For each strength of source, and last for another question's strongest: P(IK) of held-out questions
    behind it, and the share that the greedy reply gets right there.
    """
    examples, problems = asked[task.name]
    places = [place for place in halves(problems, run.seed)[1] if problems[place].text in task.sources]
    kept = [problems[place] for place in places]
    if not kept:
        return []
    found.sourced_at[task.name] = places
    strengths = [
        [task.sources[own.text][strength] for own in kept]
        for strength in range(len(task.sources[kept[0].text]))
    ]
    strengths.append([strengths[-1][place - 1] for place in range(len(kept))])
    told = []
    for strength, sources in enumerate(strengths):
        put = [with_source(own, text) for own, text in zip(kept, sources, strict=True)]

        def make(some: Sequence[Problem]) -> list[dict[str, Any]]:
            drawn = sample_answers(model, some, examples=examples, samples=1, seed=run.seed)
            return [
                {"p": p, "right": own.greedy_right is True}
                for p, own in zip(head(some, examples=examples), drawn, strict=True)
            ]

        rows = run.rows(slug(f"source {task.name} {strength}"), put, key_of, make, size=32)
        told.append(([row["p"] for row in rows], [float(row["right"]) for row in rows]))
    return told

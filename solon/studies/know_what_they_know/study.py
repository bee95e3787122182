"""Language Models (Mostly) Know What They Know (Kadavath et al. 2022, arXiv:2207.05221), top to bottom.

Multiple choice and what changes its calibration; True or False; one temperature for all; P(True) of own
samples, alone and after brainstorming; P(IK) before any answer, across tasks, behind hints, and between
models; and the baselines that both should beat.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

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
from solon.records.codecs import PLAIN, Codec
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.know_what_they_know.inputs import Inputs, Options, Task, read
from solon.studies.know_what_they_know.knowing import ALL
from solon.studies.know_what_they_know.report import report
from solon.studies.know_what_they_know.results import Judgement, Results, Sourced
from solon.studies.know_what_they_know.settings import Settings, full, quick, toy
from solon.study.conduct import Study
from solon.study.outcomes import OUTCOMES, form_of_dialogue
from solon.study.stages import slug
from solon.training.fit import steps_for
from solon.training.optimiser import Plan
from solon.training.steps import State, Step
from solon.words.question import Problem

SAMPLED: Codec[Problem, SampledAnswers] = Codec(lambda problem, answers: asdict(answers), samples_from_row)


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """All of it; every stage is kept, and gone on from."""
    models = {model.name: in_form(model, settings) for model in inputs.models}
    main = next(iter(models.values()))
    results = Results(main.name, settings.threshold, counts=dict(inputs.counts))

    # 1. multiple choice: the options, the last of them "none of the above", and each answer proposed by
    # itself
    for name, choices in inputs.choices:
        ask_choices(run, name, choices, main, settings, results, inputs.temper)

    # 2. samples of every question from every model, and whether they are right
    for task in inputs.tasks:
        examples, problems = draw(task.problems, settings.shots, settings.questions, run.seed)
        results.examples[task.name], results.problems[task.name] = examples, problems
        for name, model in models.items():
            results.samples[task.name, name] = sample(
                run, task.name, model, examples, problems, settings.samples
            )

    # 3. P(True): one sample of each question judged by its own model, alone and after brainstorming, in each
    # kind of prompt; then crossed
    prompts = kinds_of_prompt(settings, inputs)
    for task in inputs.tasks:
        for kind in prompts:
            results.judged[task.name, *kind] = judge(run, task.name, main, main, kind, results, settings)
        for speaker in models.values() if len(models) > 1 else ():
            for other in models.values():
                last = (prompts[-1][0], settings.ideas)
                crossed = judge(run, task.name, speaker, other, last, results, settings)
                results.crossed[task.name, speaker.name, other.name] = crossed

    # 4. P(IK): a head on half of the questions of one task, and one on half of all; measured on the other
    # halves
    names = [task.name for task in inputs.tasks]
    for name, model in models.items():
        learned_from = {ALL: names}
        if model is main and len(names) > 1:
            learned_from[f"{names[0]} alone"] = names[:1]
        for words, tasks in learned_from.items():
            head = learn_to_know(run, f"{name} {words}", model, tasks, results, settings)
            for task in inputs.tasks:
                stage = f"known {task.name} {name} {words}"
                results.p_ik[task.name, name, words] = held_out(run, stage, head, task.name, results)
                if model is main and words == ALL:
                    sourced = behind_sources(run, head, model, task, results)
                    results.sourced |= {} if sourced is None else {task.name: sourced}
    return report(settings, results, inputs)


def in_form(model: TorchModel, settings: Settings) -> TorchModel:
    """The model as it is put questions to: in its chat template or as plain text."""
    return model.plain() if form_of_dialogue(model, settings.form) == "text" else model


def draw(
    problems: Sequence[Problem], shots: int, count: int, seed: int
) -> tuple[list[Problem], list[Problem]]:
    """(worked examples, problems), drawn by content: which they are does not depend on the others' order."""
    order = sorted(problems, key=lambda problem: derive(seed, "order", problem.text, *problem.options))
    if len(order) - shots < 16:
        raise InputError(
            f"{len(order)} problems leave {max(len(order) - shots, 0)} beside {shots} examples; at least "
            "16 are needed"
        )
    return order[:shots], order[shots : shots + count]


# multiple choice


def ask_choices(
    run: Run,
    name: str,
    problems: Sequence[Problem],
    model: TorchModel,
    settings: Settings,
    results: Results,
    temper: TorchModel | None,
) -> None:
    """One set in three forms, and as given by the model whose temperature is fitted."""
    usable = [problem for problem in problems if not has_none_option(problem)]
    left_out = len(problems) - len(usable)
    results.counts[f"{name}: problems that have none of the above already, left out"] = left_out
    examples, drawn = draw(usable, settings.choice_shots, settings.choices, run.seed)
    hidden = settings.hidden_options
    for variant, put in variants(drawn, hidden=hidden, seed=run.seed).items():
        shown = example_variant(examples, variant, hidden=hidden)
        results.choices[name, variant] = answer(run, f"choice {name} {variant}", model, put, shown)
        if temper is not None and variant == "as given":
            tempered = answer(run, f"temper {name}", in_form(temper, settings), put, shown)
            results.tempered[name] = tempered


def variants(problems: Sequence[Problem], *, hidden: bool, seed: int) -> dict[str, list[Problem]]:
    """The same problems in three ways."""
    given = [hidden_options(problem) for problem in problems] if hidden else list(problems)
    return {
        "as given": given,
        "none of the above": [none_of_the_above(problem) for problem in given],
        "true or false": [half for problem in problems for half in true_or_false(problem, seed=seed)],
    }


def example_variant(examples: Sequence[Problem], variant: str, *, hidden: bool) -> list[Problem]:
    """Worked examples in the same way as the problems; half of them, in turn, are replaced or false where
    that is the way.
    """
    if variant == "true or false":
        return [true_or_false(example, seed=0)[index % 2] for index, example in enumerate(examples)]
    given = [hidden_options(example) for example in examples] if hidden else list(examples)
    return [none_of_the_above(example) for example in given] if variant == "none of the above" else given


def answer(
    run: Run, name: str, model: TorchModel, problems: Sequence[Problem], examples: Sequence[Problem]
) -> list[Outcome]:
    """Outcomes over options, kept as rows."""

    def make(batch: Sequence[Problem]) -> Sequence[Outcome]:
        return choice_outcomes(model, batch, examples=examples)

    return run.map(slug(name), problems, make, OUTCOMES, size=256)


# samples and P(True)


def sample(
    run: Run,
    task: str,
    model: TorchModel,
    examples: Sequence[Problem],
    problems: Sequence[Problem],
    count: int,
) -> list[SampledAnswers]:
    """What a model says to each question, kept as rows."""

    def make(batch: Sequence[Problem]) -> list[SampledAnswers]:
        seed = derive(run.seed, task)
        return sample_answers(model, batch, examples=examples, samples=count, seed=seed)

    return run.map(slug(f"samples {task} {model.name}"), problems, make, SAMPLED, size=16)


def kinds_of_prompt(settings: Settings, inputs: Inputs) -> list[tuple[str, int]]:
    """(kind of prompt, ideas shown): no example, our fixed ten, and examples from the task itself."""
    kinds = ["no example"]
    kinds += ["fixed prompt"] if inputs.fixed_prompt else []
    kinds += ["examples of the task"] if settings.judged_shots else []
    return [(kind, ideas) for kind in kinds for ideas in (0, settings.ideas)]


def judge(
    run: Run,
    task: str,
    speaker: TorchModel,
    judged_by: TorchModel,
    prompt: tuple[str, int],
    results: Results,
    settings: Settings,
) -> list[Judgement]:
    """One sample of each question, judged. The questions that examples are made of are not judged, in any
    kind of prompt.
    """
    kind, ideas = prompt
    problems, samples = results.problems[task], results.samples[task, speaker.name]
    proposed = [
        propose_sample(problem, answers, ideas=ideas, seed=run.seed)
        for problem, answers in zip(problems, samples, strict=True)
    ]
    shots = settings.judged_shots if len(proposed) > settings.judged_shots else 0
    examples = {
        "examples of the task": [put for put, _ in proposed[:shots]],
        "fixed prompt": fixed_examples(ideas=ideas > 0),
        "no example": [],
    }[kind]
    name = f"judged {task} {speaker.name} {judged_by.name} {kind} {ideas}"
    outcomes = answer(run, name, judged_by, [put for put, _ in proposed[shots:]], examples)
    return [
        Judgement(outcome, problem.text, index)
        for outcome, problem, (_, index) in zip(outcomes, problems[shots:], proposed[shots:], strict=True)
    ]


# P(IK)


def halves(problems: Sequence[Problem], seed: int) -> tuple[list[int], list[int]]:
    """Indices of questions to learn from and to measure on: by the question's cluster, before any sample is a
    row, so that nothing leaks.
    """
    sides: tuple[list[int], list[int]] = ([], [])
    for index, problem in enumerate(problems):
        sides[derive(seed, "half", problem.cluster or problem.text) % 2].append(index)
    return sides


def learn_to_know(
    run: Run, name: str, model: TorchModel, tasks: Sequence[str], results: Results, settings: Settings
) -> KnowledgeModel:
    """P(IK) of a model, learned from the first halves of some tasks."""
    bare = build_knowledge_model(
        model, settings.method, depth=settings.depth, rank=settings.rank, seed=derive(run.seed, "head")
    )
    rows = []
    for task in tasks:
        problems, learned = results.problems[task], halves(results.problems[task], run.seed)[0]
        shares, examples = results.shares(task, model.name, learned), results.examples[task]
        rows += label_questions(bare, [problems[index] for index in learned], shares, examples=examples)
    labelled = hard_labels(rows, settings.samples) if settings.hard_copies else rows
    probe = settings.method == "probe"
    steps = 0 if probe else steps_for(len(labelled), size=settings.batch, epochs=settings.epochs)

    def loop(head: KnowledgeModel, state: State | None) -> Iterator[Step]:
        if state is None:
            init_head(head, rows)
        plan = Plan(steps, settings.learning_rate, warmup=min(5, steps), schedule="linear")
        seed = derive(run.seed, name)
        return fit_knowledge_model(
            head, labelled, plan=plan, size=settings.batch, seed=seed, state=state, world=run.world
        )

    return run.trained(slug(f"P(IK) {name}"), bare, loop, steps=steps)


def held_out(run: Run, name: str, head: KnowledgeModel, task: str, results: Results) -> dict[int, float]:
    """P(IK) of the questions that it did not learn from, by index."""
    problems, examples = results.problems[task], results.examples[task]
    measured = halves(problems, run.seed)[1]

    def make(batch: Sequence[Problem]) -> Sequence[float]:
        return head(batch, examples=examples)

    values = run.map(slug(name), [problems[index] for index in measured], make, PLAIN, size=128)
    return dict(zip(measured, values, strict=True))


def behind_sources(
    run: Run, head: KnowledgeModel, model: TorchModel, task: Task, results: Results
) -> Sourced | None:
    """P(IK) and the greedy reply behind every strength of source, and behind another question's strongest;
    None where no held-out question has a source.
    """
    examples, problems = results.examples[task.name], results.problems[task.name]
    questions = [index for index in halves(problems, run.seed)[1] if problems[index].text in task.sources]
    if not questions:
        return None
    kept = [problems[index] for index in questions]
    by_strength = list(zip(*(task.sources[problem.text] for problem in kept), strict=True))
    strongest = by_strength[-1]
    by_strength.append((strongest[-1], *strongest[:-1]))

    def make(batch: Sequence[Problem]) -> list[tuple[float, bool]]:
        samples = sample_answers(model, batch, examples=examples, samples=1, seed=run.seed)
        right = [answers.greedy_right is True for answers in samples]
        return list(zip(head(batch, examples=examples), right, strict=True))

    p_ik, right = [], []
    for strength, sources in enumerate(by_strength):
        put = [with_source(problem, text) for problem, text in zip(kept, sources, strict=True)]
        rows = run.map(slug(f"source {task.name} {strength}"), put, make, PLAIN, size=32)
        p_ik.append([p for p, _ in rows])
        right.append([float(answered) for _, answered in rows])
    return Sourced(questions, p_ik, right)


STUDY = Study(
    name="know_what_they_know",
    options=Options,
    quick=quick,
    full=full,
    toy=toy,
    inputs=read,
    study=study,
    subject=lambda inputs: inputs.models[0].name,
)

"""A General Language Assistant as a Laboratory for Alignment (Askell et al. 2021, arXiv:2112.00861), top to
bottom.

What a prompt does and whether its distillate does the same; three ways to learn which of two replies is
better, over sizes; and whether a preference model that first learns from the public needs fewer of people's
comparisons.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial

from solon.alignment.distillation import (
    DistillationText,
    TeacherTargets,
    context_kl,
    distillation_loss,
    distillation_text,
    teacher_targets,
)
from solon.alignment.objectives import discrimination_loss, mutual_information
from solon.alignment.preference import PreferenceModel, comparison_loss
from solon.alignment.quality import ScoredComparison
from solon.data.exchange import binarise
from solon.data.published import first_human_text
from solon.errors import InputError
from solon.models.base import Stop, derive
from solon.models.scalar import ScalarModel
from solon.models.torch_model import TorchModel
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.general_assistant.report import Findings, Size, report
from solon.studies.general_assistant.settings import Inputs, Settings, Task
from solon.study.stages import (
    alternated,
    check_depths,
    fine_tune,
    first_layers,
    parameters,
    replies,
    score_comparisons,
    slug,
    train_preference_model,
    with_adapters,
)
from solon.training.fit import fit, shuffled_batch, steps_for
from solon.training.optimiser import Plan
from solon.training.steps import State, Step
from solon.words.comparison import Comparison


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """All of it; every stage is kept, and gone on from."""
    found = Findings(counts=dict(inputs.counts))
    start = inputs.models[-1]
    base = with_adapters(start, settings, seed=run.seed)

    for model in inputs.models:
        check_depths(model, settings.depths)
    tasks = {
        task.name: split_by_dialogue(run, inputs.models, task.comparisons, settings, found, task.name)
        for task in inputs.tasks
    }
    among = {first_human_text(prompt) for prompt in inputs.held_out}
    people = [c for c in inputs.human if first_human_text(c.prompt) not in among]
    found.counts["people's comparisons of dialogues that are held out, left out"] = len(inputs.human) - len(
        people
    )
    test, pool = split_by_dialogue(
        run, (start,), people, settings, found, "people's", least=settings.sizes[0]
    )
    found.test = [first_human_text(comparison.prompt) for comparison in test]

    # 1. a prompt, its distillate, and nothing
    learned, held = lesson_texts(run, base, inputs, settings, found)
    distilled = distil(run, base, learned, settings)
    found.before = on_texts(run, "gap", held, partial(context_kl, base.module, base.module))
    found.left = on_texts(run, "left", held, partial(context_kl, base.module, distilled.module))

    # 2. imitation, binary discrimination and ranked preference modelling, over sizes
    for model in inputs.models:
        for depth in settings.depths:
            size = Size(f"{model.name} {depth:.0%}", parameters(first_layers(model.module, depth)))
            for task in inputs.tasks:
                found.objectives[task.name, size] = objectives(
                    run, model, depth, task, *tasks[task.name], settings
                )

    # 3. preference models that first learned from the public
    apart = [c for c in inputs.public if first_human_text(c.prompt) not in {*found.test, *among}]
    found.counts["public comparisons of dialogues that measure, left out"] = len(inputs.public) - len(apart)
    begun = pretrained(run, base, apart, settings, found)
    for route, beginning in begun.items():
        for rows in (size for size in settings.sizes if size <= len(pool)):
            found.gains[route, rows] = after_pretraining(run, route, beginning, rows, pool, test, settings)
    found.counts["numbers of comparisons over those that there are, left out"] = sum(
        size > len(pool) for size in settings.sizes
    )

    # the three interventions again: by comparisons of replies, and by what they say
    found.chosen = interventions(run, base, distilled, inputs, test, found)
    judge = None
    if inputs.worth is None:
        judge = train_preference_model(
            run, replace(begun["none"], name="judge"), pool[: settings.sizes[-1]], settings
        )
        found.judge = score_comparisons(run, "scores_judge", test, judge.score)
    spoken(run, base, distilled, inputs, judge, settings, found)
    return report(asdict(settings), found, inputs)


def lesson_texts(
    run: Run, base: TorchModel, inputs: Inputs, settings: Settings, found: Findings
) -> tuple[list[DistillationText], list[DistillationText]]:
    """Texts behind the context and without it, of dialogues that they do not share: to learn from, and to
    measure with. Those that do not fit are counted.
    """
    rows = list(inputs.texts)
    if not rows:
        drawn = replies(
            run,
            "prompted",
            base,
            [prompt.after(inputs.context) for prompt in inputs.prompts],
            count=1,
            max_tokens=settings.max_tokens,
        )
        rows = [
            (prompt, group[0].text)
            for prompt, group in zip(inputs.prompts, drawn, strict=True)
            if group[0].text.strip()
        ]
        found.counts["empty replies of the prompted model, not distilled"] = len(drawn) - len(rows)
    texts = [
        (first_human_text(prompt), distillation_text(base.dialogue, inputs.context, prompt, reply))
        for prompt, reply in rows
    ]
    fitting = [
        (name, text) for name, text in texts if len(text.teacher_prefix) + len(text.tokens) <= base.context
    ]
    found.counts["texts too long to stand behind the context, left out"] = len(texts) - len(fitting)
    apart = {name for name, _ in fitting[: settings.distil_held_out]}
    held, learned = ([own for own in fitting if (own[0] in apart) == which] for which in (True, False))
    found.texts = [name for name, _ in held]
    if len(fitting) < settings.distil_held_out or len(learned) < 8:
        raise InputError(
            f"{len(rows)} texts leave {len(learned)} to distil on beside {settings.distil_held_out} to "
            "measure with; at least 8 are needed"
        )
    return [text for _, text in learned], [text for _, text in held]


def distil(run: Run, base: TorchModel, texts: Sequence[DistillationText], settings: Settings) -> TorchModel:
    """The model that has learned to speak as behind the context; what the teacher expects is computed once,
    before the first step.
    """
    steps = steps_for(len(texts), size=settings.batch, epochs=settings.distil_epochs)

    def loop(student: TorchModel, state: State | None) -> Iterator[Step]:
        rows: list[TeacherTargets] = teacher_targets(base.module, texts)

        def batch(number: int) -> list[list[TeacherTargets]]:
            return [
                shuffled_batch(rows, size=settings.batch, seed=derive(run.seed, "distilled"), number=number)
            ]

        plan = Plan(
            steps,
            settings.distil_learning_rate,
            schedule="linear",
            bf16=settings.weights == "full" and base.bf16_is_faster,
        )
        return fit(
            student.module, batch, distillation_loss(student.module), plan=plan, state=state, world=run.world
        )

    return run.trained("distilled", base, loop, steps=steps)


def on_texts(
    run: Run, name: str, texts: Sequence[DistillationText], measure: partial[list[float]]
) -> list[float]:
    """A number for each text, kept as rows."""
    rows = run.rows(
        name,
        texts,
        lambda text: f"{derive(0, text.student_prefix, text.tokens):x}",
        lambda some: [{"kl": kl} for kl in measure(some)],
    )
    return [row["kl"] for row in rows]


def split_by_dialogue(
    run: Run,
    readers: Sequence[TorchModel],
    rows: Sequence[Comparison],
    settings: Settings,
    found: Findings,
    name: str,
    *,
    least: int = 32,
) -> tuple[list[Comparison], list[Comparison]]:
    """Decided comparisons that fit the contexts of all who read them, by dialogue: to measure with and to
    learn from.
    """
    forms = [PreferenceModel("", ScalarModel(reader.module), reader.dialogue) for reader in readers]
    fitting = [c for c in rows if c.p_first != 0.5 and all(form.fits_context(c) for form in forms)]
    found.counts[f"{name} comparisons that were ties or too long, left out"] = len(rows) - len(fitting)
    dialogues: dict[str, list[Comparison]] = {}
    for comparison in fitting:
        dialogues.setdefault(first_human_text(comparison.prompt), []).append(comparison)
    test, pool = list[Comparison](), list[Comparison]()
    wanted = min(settings.measured, len(fitting) // 4)
    for own in random.Random(derive(run.seed, "parted", name)).sample(sorted(dialogues), len(dialogues)):
        (test if len(test) < wanted else pool).extend(dialogues[own])
    if len(test) < 20 or len(pool) < least:
        found_ = f"{len(test)} to measure with and {len(pool)} to learn from"
        raise InputError(f"{len(rows)} {name} comparisons give {found_}; at least 20 and {least} are needed")
    pool = random.Random(derive(run.seed, "pool", name)).sample(pool, len(pool))
    return alternated(unrepeated(test)), alternated(pool)


def unrepeated(rows: Sequence[Comparison]) -> list[Comparison]:
    return list({row.key: row for row in rows}.values())


def objectives(
    run: Run,
    model: TorchModel,
    depth: float,
    task: Task,
    test: Sequence[Comparison],
    pool: Sequence[Comparison],
    settings: Settings,
) -> dict[str, list[ScoredComparison]]:
    """What each objective, learned from the same comparisons, gives both replies of those held out."""
    rows = pool[: settings.task_rows]
    base = with_adapters(model, settings, seed=run.seed)
    cut = TorchModel(model.name, first_layers(base.module, depth), model.dialogue)
    name = f"{slug(task.name)}_{slug(model.name)}_{depth:g}"
    better = [(c.prompt, c.first if c.p_first > 0.5 else c.second) for c in rows]
    form = model.dialogue
    examples = [(form.prompt(prompt), form.reply(prompt, reply) + form.end) for prompt, reply in better]
    imitator = fine_tune(
        run,
        f"imitation_{name}",
        cut,
        examples,
        settings,
        epochs=settings.objective_epochs,
        learning_rate=settings.objective_learning_rate,
    )
    own = replace(
        settings,
        preference_epochs=settings.objective_epochs,
        preference_learning_rate=settings.objective_learning_rate,
        probe_start=False,
    )
    scores = {
        "imitation": score_comparisons(
            run, f"scores_imitation_{name}", test, partial(mutual_information, imitator)
        ),
        "imitation, likelihood alone": score_comparisons(
            run, f"scores_likelihood_{name}", test, lambda p, r: [s.logprob for s in imitator.score(p, r)]
        ),
    }
    for objective, loss in (("binary", discrimination_loss), ("ranked", comparison_loss)):
        unlearned = PreferenceModel(f"{objective}_{name}", ScalarModel(cut.copy().module), form)
        scores[objective] = score_comparisons(
            run,
            f"scores_{objective}_{name}",
            test,
            train_preference_model(run, unlearned, rows, own, loss=loss).score,
        )
    return scores


def pretrained(
    run: Run, base: TorchModel, public: Sequence[Comparison], settings: Settings, found: Findings
) -> dict[str, PreferenceModel]:
    """Preference models before people's comparisons: from the language model itself, from ranked public ones,
    from binarised ones.
    """
    none = PreferenceModel(
        "none", ScalarModel(first_layers(base.copy().module, settings.preference_depth)), base.dialogue
    )
    rows = [c for c in public if c.p_first != 0.5]
    twice = [half for c in rows for half in binarise(c)]
    fitting = [
        place
        for place in range(len(rows))
        if all(none.fits_context(half) for half in twice[2 * place : 2 * place + 2])
        and none.fits_context(rows[place])
    ]
    found.counts["public comparisons that were ties or too long, left out"] = len(public) - len(fitting)
    chosen = random.Random(derive(run.seed, "public")).sample(
        fitting, min(settings.pretraining_rows or len(fitting), len(fitting))
    )
    if len(chosen) < 8:
        raise InputError(
            f"{len(public)} public comparisons leave {len(chosen)} to pretrain on; at least 8 are needed"
        )
    found.pretrained = len(chosen)
    own = replace(
        settings,
        preference_epochs=settings.pretraining_epochs,
        preference_learning_rate=settings.pretraining_learning_rate,
    )
    ranked = alternated([rows[place] for place in chosen])
    binary = alternated([twice[2 * place + half] for place in chosen for half in (0, 1)])
    return {
        "none": none,
        "ranked": train_preference_model(run, replace(none, name="pretrained_ranked"), ranked, own),
        "binary": train_preference_model(run, replace(none, name="pretrained_binary"), binary, own),
    }


def after_pretraining(
    run: Run,
    route: str,
    beginning: PreferenceModel,
    size: int,
    pool: Sequence[Comparison],
    test: Sequence[Comparison],
    settings: Settings,
) -> list[float]:
    """How often each held-out comparison was judged right, over draws of so many of people's. Those who come
    from the public keep the head that they learned there.
    """
    own = settings if route == "none" else replace(settings, probe_start=False)
    right = [0.0] * len(test)
    for draw in range(settings.draws):
        chosen = random.Random(derive(run.seed, "draw", size, draw)).sample(pool, size)
        model = train_preference_model(run, replace(beginning, name=f"pm_{route}_{size}_{draw}"), chosen, own)
        rows = score_comparisons(run, f"scores_pm_{route}_{size}_{draw}", test, model.score)
        right = [sum_ + row.right / settings.draws for sum_, row in zip(right, rows, strict=True)]
    return right


def interventions(
    run: Run,
    base: TorchModel,
    distilled: TorchModel,
    inputs: Inputs,
    test: Sequence[Comparison],
    found: Findings,
) -> dict[str, list[ScoredComparison]]:
    """Which reply of people's comparisons each would rather say, by the information between prompt and
    reply.
    """
    form = base.dialogue
    longest = [max(len(form.reply(c.prompt, reply)) for reply in (c.first, c.second)) for c in test]
    room = [
        c
        for c, said in zip(test, longest, strict=True)
        if base.fits(c.prompt.after(inputs.context), max_tokens=said)
    ]
    found.counts["held-out comparisons too long to stand behind the context, not chosen between"] = len(
        test
    ) - len(room)
    ways = {
        "nothing": partial(mutual_information, base),
        "prompted": partial(mutual_information, base, context=inputs.context),
        "distilled": partial(mutual_information, distilled),
    }
    return {name: score_comparisons(run, f"chosen_{name}", room, score) for name, score in ways.items()}


def spoken(
    run: Run,
    base: TorchModel,
    distilled: TorchModel,
    inputs: Inputs,
    judge: PreferenceModel | None,
    settings: Settings,
    found: Findings,
) -> None:
    """A reply of each to every held-out prompt, and its worth: the truth where it is known, else a preference
    model's score.
    """
    for name, model, context in (
        ("nothing", base, None),
        ("prompted", base, inputs.context),
        ("distilled", distilled, None),
    ):
        asked = [prompt if context is None else prompt.after(context) for prompt in inputs.held_out]
        found.said[name] = [
            group[0]
            for group in replies(
                run, f"held_out_{name}", model, asked, count=1, max_tokens=settings.max_tokens
            )
        ]
        cut = sum(said.stop is Stop.LENGTH for said in found.said[name])
        found.counts[
            f"held-out replies ({name}) that were cut off at max_tokens, and judged as they stand"
        ] = cut
        worth = inputs.worth
        if worth is not None:
            found.worth[name] = [
                worth(prompt, said.text)
                for prompt, said in zip(inputs.held_out, found.said[name], strict=True)
            ]
        elif judge is not None:
            rows = run.rows(
                f"worth_{name}",
                list(zip(inputs.held_out, found.said[name], strict=True)),
                lambda item: item[0].key,
                lambda some: [
                    {"score": score}
                    for score in judge([prompt for prompt, _ in some], [said for _, said in some])
                ],
            )
            found.worth[name] = [row["score"] for row in rows]

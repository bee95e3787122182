"""A General Language Assistant as a Laboratory for Alignment (Askell et al. 2021, arXiv:2112.00861), top to
bottom.

What a prompt does and whether its distillate does the same; three ways to learn which of two replies is
better, over sizes; and whether a preference model that first learns from the public needs fewer of people's
comparisons.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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
from solon.models.base import Sample, Stop, derive
from solon.models.scalar import ScalarModel
from solon.models.torch_model import TorchModel
from solon.records.codecs import PLAIN
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.general_assistant.inputs import Inputs, Options, read
from solon.studies.general_assistant.report import Results, Size, report
from solon.studies.general_assistant.settings import Settings, full, quick, toy
from solon.study.conduct import Study
from solon.study.stages import (
    alternated,
    by_dialogue,
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
from solon.words.conversation import Conversation

Counts = dict[str, int]


@dataclass(frozen=True, slots=True)
class Split:
    """Comparisons of one kind, by dialogue: to measure with and to learn from."""

    test: list[Comparison]
    pool: list[Comparison]


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """All of it; every stage is kept, and gone on from."""
    counts, start = dict(inputs.counts), inputs.models[-1]
    base = with_adapters(start, settings, seed=run.seed)
    for model in inputs.models:
        check_depths(model, settings.depths)
    split = partial(split_by_dialogue, run.seed, measured=settings.measured, counts=counts)
    tasks = {task.name: split(task.name, inputs.models, task.comparisons) for task in inputs.tasks}
    held_out = {first_human_text(prompt) for prompt in inputs.held_out}
    people = [c for c in inputs.human if first_human_text(c.prompt) not in held_out]
    left_out = len(inputs.human) - len(people)
    counts["people's comparisons of dialogues that are held out, left out"] = left_out
    human = split("people's", (start,), people, least=settings.sizes[0])
    dialogues = [first_human_text(comparison.prompt) for comparison in human.test]

    # 1. a prompt, its distillate, and nothing
    learned, held = distillation_texts(run, base, settings, inputs, counts)
    distilled = distil(run, base, [text for _, text in learned], settings)
    texts = [text for _, text in held]
    before = keep_kl(run, "gap", texts, partial(context_kl, base.module, base.module))
    after = keep_kl(run, "left", texts, partial(context_kl, base.module, distilled.module))

    # 2. imitation, binary discrimination and ranked preference modelling, over sizes
    objectives = {
        (task.name, size_of(model, depth)): learn_objectives(
            run, model, depth, task.name, tasks[task.name], settings
        )
        for model in inputs.models
        for depth in settings.depths
        for task in inputs.tasks
    }

    # 3. preference models that first learned from the public
    apart = [c for c in inputs.public if first_human_text(c.prompt) not in {*dialogues, *held_out}]
    counts["public comparisons of dialogues that measure, left out"] = len(inputs.public) - len(apart)
    begun, pretrained = pretrain(run, base, apart, settings, counts)
    sizes = [size for size in settings.sizes if size <= len(human.pool)]
    gains = {
        (route, size): after_pretraining(run, route, model, size, human, settings)
        for route, model in begun.items()
        for size in sizes
    }
    counts["numbers of comparisons over those that there are, left out"] = len(settings.sizes) - len(sizes)

    # the three interventions again: by comparisons of replies, and by what they say
    chosen = choose_replies(run, base, distilled, inputs.context, human.test, counts)
    judge, judged = None, list[ScoredComparison]()
    if inputs.worth is None:
        unlearned = replace(begun["none"], name="judge")
        judge = train_preference_model(run, unlearned, human.pool[: settings.sizes[-1]], settings)
        judged = score_comparisons(run, "scores_judge", human.test, judge.score)
    said = speak(run, base, distilled, inputs, settings.max_tokens, counts)
    results = Results(
        kl_before=before,
        kl_after=after,
        text_dialogues=[name for name, _ in held],
        objectives=objectives,
        test_dialogues=dialogues,
        gains=gains,
        chosen=chosen,
        said=said,
        worth=worth_of(run, inputs, said, judge),
        judged=judged,
        pretrained=pretrained,
        counts=counts,
    )
    return report(settings, results, inputs)


def distillation_texts(
    run: Run, base: TorchModel, settings: Settings, inputs: Inputs, counts: Counts
) -> tuple[list[tuple[str, DistillationText]], list[tuple[str, DistillationText]]]:
    """(dialogue, text behind the context and without it), of dialogues that they do not share: to learn from,
    and to measure with. Those that do not fit are counted. Raises InputError where too few do.
    """
    rows = list(inputs.texts)
    if not rows:
        prompts = [prompt.after(inputs.context) for prompt in inputs.prompts]
        groups = replies(run, "prompted", base, prompts, count=1, max_tokens=settings.max_tokens)
        texts = [(prompt, group[0].text) for prompt, group in zip(inputs.prompts, groups, strict=True)]
        rows = [(prompt, text) for prompt, text in texts if text.strip()]
        counts["empty replies of the prompted model, not distilled"] = len(texts) - len(rows)
    named = [
        (first_human_text(prompt), distillation_text(base.dialogue, inputs.context, prompt, reply))
        for prompt, reply in rows
    ]
    fitting = [
        (name, text) for name, text in named if len(text.teacher_prefix) + len(text.tokens) <= base.context
    ]
    counts["texts too long to stand behind the context, left out"] = len(named) - len(fitting)
    apart = {name for name, _ in fitting[: settings.distil_held_out]}
    held = [row for row in fitting if row[0] in apart]
    learned = [row for row in fitting if row[0] not in apart]
    if len(fitting) < settings.distil_held_out or len(learned) < 8:
        raise InputError(
            f"{len(rows)} texts leave {len(learned)} to distil on beside {settings.distil_held_out} to "
            "measure with; at least 8 are needed"
        )
    return learned, held


def distil(run: Run, base: TorchModel, texts: Sequence[DistillationText], settings: Settings) -> TorchModel:
    """The model that has learned to speak as behind the context; what the teacher expects is computed once,
    before the first step.
    """
    steps = steps_for(len(texts), size=settings.batch, epochs=settings.distil_epochs)
    bf16 = settings.weights == "full" and base.bf16_is_faster
    plan = Plan(steps, settings.distil_learning_rate, schedule="linear", bf16=bf16)

    def loop(student: TorchModel, state: State | None) -> Iterator[Step]:
        rows: list[TeacherTargets] = teacher_targets(base.module, texts)
        seed = derive(run.seed, "distilled")

        def batch(number: int) -> list[list[TeacherTargets]]:
            return [shuffled_batch(rows, size=settings.batch, seed=seed, number=number)]

        loss = distillation_loss(student.module)
        return fit(student.module, batch, loss, plan=plan, state=state, world=run.world)

    return run.trained("distilled", base, loop, steps=steps)


def keep_kl(
    run: Run,
    name: str,
    texts: Sequence[DistillationText],
    measure: Callable[[Sequence[DistillationText]], Sequence[float]],
) -> list[float]:
    """The KL of each text, nats a token, kept as rows."""

    def key(text: DistillationText) -> str:
        return f"{derive(0, text.student_prefix, text.tokens):x}"

    return run.map(name, texts, measure, PLAIN, key=key)


def split_by_dialogue(
    seed: int,
    name: str,
    readers: Sequence[TorchModel],
    rows: Sequence[Comparison],
    *,
    measured: int,
    counts: Counts,
    least: int = 32,
) -> Split:
    """Decided comparisons that fit the contexts of all who read them, by dialogue. Raises InputError where
    there are too few.
    """
    forms = [PreferenceModel("", ScalarModel(reader.module), reader.dialogue) for reader in readers]
    fitting = [c for c in rows if c.p_first != 0.5 and all(form.fits_context(c) for form in forms)]
    counts[f"{name} comparisons that were ties or too long, left out"] = len(rows) - len(fitting)
    dialogues = by_dialogue(fitting)
    test, pool = list[Comparison](), list[Comparison]()
    wanted = min(measured, len(fitting) // 4)
    for dialogue in random.Random(derive(seed, "parted", name)).sample(sorted(dialogues), len(dialogues)):
        (test if len(test) < wanted else pool).extend(dialogues[dialogue])
    if len(test) < 20 or len(pool) < least:
        parts = f"{len(test)} to measure with and {len(pool)} to learn from"
        raise InputError(f"{len(rows)} {name} comparisons give {parts}; at least 20 and {least} are needed")
    unrepeated = list({row.key: row for row in test}.values())
    pool = random.Random(derive(seed, "pool", name)).sample(pool, len(pool))
    return Split(alternated(unrepeated), alternated(pool))


def size_of(model: TorchModel, depth: float) -> Size:
    return Size(f"{model.name} {depth:.0%}", parameters(first_layers(model.module, depth)))


def learn_objectives(
    run: Run, model: TorchModel, depth: float, task: str, split: Split, settings: Settings
) -> dict[str, list[ScoredComparison]]:
    """What each objective, learned from the same comparisons, gives both replies of those held out."""
    rows, form = split.pool[: settings.task_rows], model.dialogue
    base = with_adapters(model, settings, seed=run.seed)
    cut = TorchModel(model.name, first_layers(base.module, depth), form)
    name = f"{slug(task)}_{slug(model.name)}_{depth:g}"
    better = [(c.prompt, c.first if c.p_first > 0.5 else c.second) for c in rows]
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
    changed = replace(
        settings,
        preference_epochs=settings.objective_epochs,
        preference_learning_rate=settings.objective_learning_rate,
        probe_start=False,
    )

    def likelihood(prompts: Sequence[Conversation], texts: Sequence[str]) -> list[float]:
        return [sample.logprob for sample in imitator.score(prompts, texts)]

    score = partial(score_comparisons, run, test=split.test)
    scores = {
        "imitation": score(f"scores_imitation_{name}", score=partial(mutual_information, imitator)),
        "imitation, likelihood alone": score(f"scores_likelihood_{name}", score=likelihood),
    }
    for objective, loss in (("binary", discrimination_loss), ("ranked", comparison_loss)):
        unlearned = PreferenceModel(f"{objective}_{name}", ScalarModel(cut.copy().module), form)
        learned = train_preference_model(run, unlearned, rows, changed, loss=loss)
        scores[objective] = score(f"scores_{objective}_{name}", score=learned.score)
    return scores


def pretrain(
    run: Run, base: TorchModel, public: Sequence[Comparison], settings: Settings, counts: Counts
) -> tuple[dict[str, PreferenceModel], int]:
    """Preference models before people's comparisons: from the language model itself, from ranked public ones,
    from binarised ones; and how many public comparisons they learned from. Raises InputError under 8.
    """
    backbone = first_layers(base.copy().module, settings.preference_depth)
    none = PreferenceModel("none", ScalarModel(backbone), base.dialogue)
    decided = [(c, *binarise(c)) for c in public if c.p_first != 0.5]
    fitting = [index for index, forms in enumerate(decided) if all(none.fits_context(form) for form in forms)]
    counts["public comparisons that were ties or too long, left out"] = len(public) - len(fitting)
    count = min(settings.pretraining_rows or len(fitting), len(fitting))
    drawn = random.Random(derive(run.seed, "public")).sample(fitting, count)
    if len(drawn) < 8:
        raise InputError(
            f"{len(public)} public comparisons leave {len(drawn)} to pretrain on; at least 8 are needed"
        )
    changed = replace(
        settings,
        preference_epochs=settings.pretraining_epochs,
        preference_learning_rate=settings.pretraining_learning_rate,
    )
    rows = {
        "ranked": alternated([decided[index][0] for index in drawn]),
        "binary": alternated([half for index in drawn for half in decided[index][1:]]),
    }
    models = {
        route: train_preference_model(run, replace(none, name=f"pretrained_{route}"), comparisons, changed)
        for route, comparisons in rows.items()
    }
    return {"none": none, **models}, len(drawn)


def after_pretraining(
    run: Run, route: str, beginning: PreferenceModel, size: int, human: Split, settings: Settings
) -> list[float]:
    """How often each held-out comparison was judged right, over draws of so many of people's. Those who come
    from the public keep the head that they learned there.
    """
    kept = settings if route == "none" else replace(settings, probe_start=False)
    right = [0.0] * len(human.test)
    for draw in range(settings.draws):
        rows = random.Random(derive(run.seed, "draw", size, draw)).sample(human.pool, size)
        model = train_preference_model(run, replace(beginning, name=f"pm_{route}_{size}_{draw}"), rows, kept)
        scored = score_comparisons(run, f"scores_pm_{route}_{size}_{draw}", human.test, model.score)
        right = [share + row.right / settings.draws for share, row in zip(right, scored, strict=True)]
    return right


def choose_replies(
    run: Run,
    base: TorchModel,
    distilled: TorchModel,
    context: Conversation,
    test: Sequence[Comparison],
    counts: Counts,
) -> dict[str, list[ScoredComparison]]:
    """Which reply of people's comparisons each would rather say, by the information between prompt and
    reply.
    """

    def fits(comparison: Comparison) -> bool:
        texts = (comparison.first, comparison.second)
        longest = max(len(base.dialogue.reply(comparison.prompt, text)) for text in texts)
        return base.fits(comparison.prompt.after(context), max_tokens=longest)

    fitting = [comparison for comparison in test if fits(comparison)]
    left_out = len(test) - len(fitting)
    counts["held-out comparisons too long to stand behind the context, not chosen between"] = left_out
    ways = {
        "nothing": partial(mutual_information, base),
        "prompted": partial(mutual_information, base, context=context),
        "distilled": partial(mutual_information, distilled),
    }
    return {name: score_comparisons(run, f"chosen_{name}", fitting, score) for name, score in ways.items()}


def speak(
    run: Run, base: TorchModel, distilled: TorchModel, inputs: Inputs, max_tokens: int, counts: Counts
) -> dict[str, list[Sample]]:
    """A reply of each intervention to every held-out prompt."""
    behind = [prompt.after(inputs.context) for prompt in inputs.held_out]
    ways = {
        "nothing": (base, inputs.held_out),
        "prompted": (base, behind),
        "distilled": (distilled, inputs.held_out),
    }
    said = {}
    for name, (model, prompts) in ways.items():
        groups = replies(run, f"held_out_{name}", model, prompts, count=1, max_tokens=max_tokens)
        said[name] = [group[0] for group in groups]
        cut = sum(sample.stop is Stop.LENGTH for sample in said[name])
        counts[f"held-out replies ({name}) that were cut off at max_tokens, and judged as they stand"] = cut
    return said


def worth_of(
    run: Run, inputs: Inputs, said: dict[str, list[Sample]], judge: PreferenceModel | None
) -> dict[str, list[float]]:
    """The worth of every held-out reply: the truth where it is known, else a preference model's score."""
    worth, prompts = inputs.worth, inputs.held_out
    if worth is not None:
        return {
            name: [worth(prompt, sample.text) for prompt, sample in zip(prompts, samples, strict=True)]
            for name, samples in said.items()
        }
    assert judge is not None

    def make(batch: Sequence[tuple[Conversation, Sample]]) -> list[float]:
        return judge([prompt for prompt, _ in batch], [sample for _, sample in batch])

    return {
        name: run.map(
            f"worth_{name}",
            list(zip(prompts, samples, strict=True)),
            make,
            PLAIN,
            key=lambda pair: pair[0].key,
        )
        for name, samples in said.items()
    }


STUDY = Study(
    name="general_assistant",
    options=Options,
    quick=quick,
    full=full,
    toy=toy,
    inputs=read,
    study=study,
    subject=lambda inputs: " ".join(model.name for model in inputs.models),
)

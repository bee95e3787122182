"""Learn a preference model from comparisons and judge new replies: python preference_model.py MODEL"""

import sys

import solon
from solon.alignment.preference import fit_preference_model, init_head
from solon.models.scalar import ScalarModel

TASKS = ("boil an egg", "tie a knot", "plant a tree", "write a letter", "mend a shirt", "cook some rice")
KIND = "Gladly. First gather what you need, then go step by step, and take your time."
RUDE = "No. Find out for yourself and do not bother me with this."


def main(name: str = "smollm2", steps: int = 20) -> None:
    model = solon.load(name)
    prompts = [solon.Conversation().human(f"How do I {task}?") for task in TASKS]
    comparisons = [solon.Comparison(prompt, KIND, RUDE, p_first=1.0, judge="me") for prompt in prompts]
    comparisons += [comparison.swapped() for comparison in comparisons]

    judge = solon.PreferenceModel("manners", ScalarModel(model.unfrozen().module), model.dialogue)
    init_head(judge, comparisons)  # the ridge solution on the states of the model as it is
    plan = solon.Plan(steps, 1e-4, warmup=2)
    for step in fit_preference_model(judge, comparisons, plan=plan, size=4, seed=0):
        print(step.number, f"loss {step.metrics['loss']:.3f} nats")

    asked = solon.Conversation().human("How do I ride a bicycle?")
    for reply in (KIND, RUDE):
        print(f"{judge.score([asked], [reply])[0]:7.3f}  {reply}")


if __name__ == "__main__":
    main(*sys.argv[1:2])

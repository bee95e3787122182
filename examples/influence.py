"""Which training rows made a reply likelier (EK-FAC influence functions): python influence.py MODEL"""

import sys

import solon
from solon.interpretability.curvature import fit_factors
from solon.interpretability.influence import influence, preconditioned_queries
from solon.interpretability.linear import linear_layers
from solon.interpretability.objectives import language_objective

ROWS = [
    ("What colour is the sky?", "The sky is blue."),
    ("What colour is grass?", "Grass is green."),
    ("What colour is snow?", "Snow is white."),
    ("How many legs has a dog?", "A dog has four legs."),
    ("What do cows drink?", "Cows drink water."),
    ("Where do fish live?", "Fish live in water."),
]
QUESTION = ("What colour is the sea?", "The sea is blue.")


def main(name: str = "smollm2") -> None:
    model = solon.load(name, precision="float32")
    form = model.dialogue

    def tokens(question: str, reply: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        prompt = solon.Conversation().human(question)
        return form.prompt(prompt), form.reply(prompt, reply) + form.end

    rows = [tokens(*row) for row in ROWS]
    objective = language_objective(model.module)
    layers = linear_layers(model.module, ("mlp",))
    factors = fit_factors(objective, layers, rows)
    queries = preconditioned_queries(objective, layers, factors, [tokens(*QUESTION)])
    scores = influence(objective, layers, queries, rows)[0]
    print(f"{QUESTION[0]} {QUESTION[1]}")
    for score, (question, reply) in sorted(zip(scores, ROWS, strict=True), reverse=True):
        print(f"{score:12.4g}  {question} {reply}")


if __name__ == "__main__":
    main(*sys.argv[1:2])

"""Learn a sparse dictionary of a layer and steer with it: python dictionary_and_steering.py MODEL"""

import sys
from functools import partial

import torch

import solon
from solon.interpretability.autoencoder import Autoencoder, AutoencoderBank, activation_scale
from solon.interpretability.dictionary import fit_autoencoders, training_plan
from solon.interpretability.steering import HookSite, clamp_features
from solon.interpretability.stream import activation_batches, harvester

TEXTS = [
    f"The {animal} sat by the {place} and waited."
    for animal in ("cat", "dog", "bird", "fox")
    for place in ("door", "river", "wall", "fire")
]


def main(name: str = "smollm2", steps: int = 60) -> None:
    model = solon.load(name)
    prompts = [solon.Conversation().human(text) for text in TEXTS]
    tokens = [model.dialogue.prompt(prompt) for prompt in prompts]
    length = min(map(len, tokens))
    rows = [row[:length] for row in tokens]
    layer = model.module.depth // 2
    harvest = harvester(model.module, rows, layer)

    x_BD = harvest(range(len(rows))).flatten(0, -2)
    autoencoder = Autoencoder(x_BD.shape[-1], 4 * x_BD.shape[-1], seed=0)
    autoencoder.scale.fill_(activation_scale(x_BD))
    batches = partial(activation_batches, harvest, len(rows), chunk=len(rows), size=32, seed=0)
    for step in fit_autoencoders(
        AutoencoderBank([autoencoder]),
        lambda start: batches(start=start),
        [1.0],
        plan=training_plan(steps, 1e-3),
    ):
        if step.number % 20 == 0:
            print(step.number, {key: round(value, 3) for key, value in step.metrics.items()})

    with torch.no_grad():
        strongest = int(autoencoder.encode(x_BD).mean(dim=0).argmax())
    site = HookSite(model.module, layer)
    for level in (0.0, 20.0):
        with site.edited(clamp_features(autoencoder, {strongest: level})):
            reply = model.sample(prompts[:1], max_tokens=16, seed=0)[0][0]
        print(f"feature {strongest} at {level:g}: {reply.text!r}")


if __name__ == "__main__":
    main(*sys.argv[1:2])

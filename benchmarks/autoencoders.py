"""Training one sparse autoencoder here, with SAELens and with dictionary_learning: the same start,
activations, learning rates and penalties, side by side.

    python -m benchmarks.autoencoders [--width 256 --features 4096 --steps 400]

Needs `pip install sae-lens` (and, without its dependencies, `dictionary_learning`, whose activation buffer is
not used). Activations are planted, centred and made before anything is timed. Every step of each counts, the
first dense ones among them; losses are the paper's, on batches that nothing learned from.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from types import ModuleType

import torch
from torch import Tensor

from solon.interpretability.autoencoder import Autoencoder, AutoencoderBank, activation_scale
from solon.interpretability.dictionary import (
    L1_COEFFICIENT,
    WARMUP,
    fit_autoencoders,
    measure_autoencoder,
    training_plan,
)
from solon.studies.monosemanticity.directions import planted

BATCH, RATE, TARGET = 2048, 1e-3, 4.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--features", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batches", type=int, default=100, help="different ones; they come again")
    parser.add_argument("--only", nargs="*", default=["solon", "SAELens", "dictionary_learning"])
    options = parser.parse_args()
    world = planted(options.width, 4 * options.width, seed=0, active=8.0)
    stream = world.batches(BATCH, seed=1)
    batches = [next(stream) for _ in range(options.batches)]
    middle = torch.cat(batches[:8]).mean(dim=0)  # taken off, since peers differ in how they learn it
    scale = activation_scale(batches[0] - middle)
    batches = [(own - middle) * scale for own in batches]
    held = [(own - middle) * scale for own, _ in zip(world.batches(BATCH, seed=2), range(8), strict=False)]
    print(
        f"{options.features} features of {options.width} channels, {options.steps} steps of {BATCH}, "
        f"{torch.get_num_threads()} threads"
    )
    print("\n| | seconds | tokens/s | loss on held-out | active | ours over it |\n|---|---|---|---|---|---|")
    runs: dict[str, Callable[[Autoencoder, list[Tensor], int], Autoencoder]] = {
        "solon": ours,
        "SAELens": saelens,
        "dictionary_learning": theirs,
    }
    seconds = dict[str, float]()
    for name in options.only:
        start = Autoencoder(options.width, options.features, seed=3)
        runs[name](start, batches, 3)  # what the first call costs is not counted
        began = time.perf_counter()
        made = runs[name](start, batches, options.steps)
        seconds[name] = time.perf_counter() - began
        value = measure_autoencoder(made, held)
        ratio = (
            ""
            if name == "solon"
            else (
                f"{seconds[name] / seconds['solon']:.2f}x, "
                f"{'met' if seconds[name] / seconds['solon'] >= TARGET else 'MISSED'}"
            )
        )
        print(
            f"| {name} | {seconds[name]:.1f} | {options.steps * BATCH / seconds[name]:.0f} | "
            f"{value.loss:.3f} | {value.active:.1f} | {ratio} |",
            flush=True,
        )


def again(batches: list[Tensor], start: int = 0) -> Iterator[Tensor]:
    while True:
        yield batches[start % len(batches)]
        start += 1


def ours(start: Autoencoder, batches: list[Tensor], steps: int) -> Autoencoder:
    bank = AutoencoderBank([start]).copy()
    for _ in fit_autoencoders(
        bank, lambda number: again(batches, number), [L1_COEFFICIENT], plan=training_plan(steps, RATE)
    ):
        pass
    return next(iter(bank))


def saelens(start: Autoencoder, batches: list[Tensor], steps: int) -> Autoencoder:
    config_module, kinds, training = (
        importlib.import_module(f"sae_lens.{name}")
        for name in ("config", "saes.standard_sae", "training.sae_trainer")
    )
    config = kinds.StandardTrainingSAEConfig(
        d_in=start.width,
        d_sae=start.features,
        apply_b_dec_to_input=False,
        normalize_activations="none",
        l1_coefficient=L1_COEFFICIENT,
        l1_warm_up_steps=int(WARMUP * steps),
    )
    peer = kinds.StandardTrainingSAE(config)
    with torch.no_grad():
        peer.W_enc.copy_(start.encoder_FD.T)
        peer.W_dec.copy_(start.decoder_FD)
    trainer = config_module.SAETrainerConfig(
        n_checkpoints=0,
        checkpoint_path=None,
        save_final_checkpoint=False,
        total_training_samples=steps * BATCH,
        device="cpu",
        autocast=False,
        lr=RATE,
        lr_end=0.0,
        lr_scheduler_name="constant",
        lr_warm_up_steps=0,
        adam_beta1=0.9,
        adam_beta2=0.999,
        lr_decay_steps=steps // 5,
        n_restart_cycles=1,
        train_batch_size_samples=BATCH,
        dead_feature_window=1000,
        feature_sampling_window=2000,
        logger=config_module.LoggingConfig(log_to_wandb=False),
    )
    training.SAETrainer(trainer, peer, again(batches)).fit()
    return read_back(start, peer.W_enc.T, peer.b_enc, peer.W_dec, peer.b_dec)


def theirs(start: Autoencoder, batches: list[Tensor], steps: int) -> Autoencoder:
    # what its buffer and logs would need
    for name, wanted in (("nnsight", "LanguageModel"), ("wandb", "init"), ("circuitsvis", "tokens")):
        if name not in sys.modules:
            try:
                importlib.import_module(name)
            except ImportError:
                sys.modules[name] = ModuleType(name)
                setattr(sys.modules[name], wanted, object)
    trainer = importlib.import_module("dictionary_learning.trainers.standard").StandardTrainerAprilUpdate(
        steps=steps,
        activation_dim=start.width,
        dict_size=start.features,
        layer=0,
        lm_name="planted",
        lr=RATE,
        l1_penalty=L1_COEFFICIENT,
        warmup_steps=0,
        sparsity_warmup_steps=max(1, int(WARMUP * steps)),
        decay_start=int(0.8 * steps),
        seed=0,
        device="cpu",
    )
    peer = trainer.ae
    with torch.no_grad():
        peer.encoder.weight.copy_(start.encoder_FD)
        peer.encoder.bias.zero_()
        peer.decoder.weight.copy_(start.decoder_FD.T)
        peer.bias.zero_()
    for step, batch in zip(range(steps), again(batches), strict=False):
        trainer.update(step, batch)
    # its encoder takes the decoder's bias off first
    bias = peer.encoder.bias - peer.encoder.weight @ peer.bias
    return read_back(start, peer.encoder.weight, bias, peer.decoder.weight.T, peer.bias)


def read_back(
    start: Autoencoder, encoder_FD: Tensor, bias_F: Tensor, decoder_FD: Tensor, decoder_bias_D: Tensor
) -> Autoencoder:
    own = Autoencoder(start.width, start.features, seed=0)
    with torch.no_grad():
        own.encoder_FD.copy_(encoder_FD)
        own.encoder_bias_F.copy_(bias_F)
        own.decoder_FD.copy_(decoder_FD)
        own.decoder_bias_D.copy_(decoder_bias_D)
    return own


if __name__ == "__main__":
    main()

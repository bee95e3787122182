"""Autoencoders in the folder formats of SAELens and sparsify. No pickle is loaded and no code is run.

SAELens: cfg.json and sae_weights.safetensors (W_enc (D, F), b_enc, W_dec (F, D), b_dec). sparsify: cfg.json
and sae.safetensors (encoder.weight (F, D), encoder.bias, W_dec (F, D), b_dec), whose encoder first subtracts
b_dec from its input. The scale is folded into the written weights, so that they take unscaled activations;
the trained scale is in the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from solon.errors import InputError
from solon.interpretability.autoencoder import Autoencoder
from solon.models.weights import load_tensors, save_tensors

SAELENS, SPARSIFY = "sae_weights.safetensors", "sae.safetensors"


def write_saelens(autoencoder: Autoencoder, folder: Path, about: Mapping[str, Any]) -> None:
    """Writes an autoencoder for SAELens, with `about` (model_name, hook_name and the like) as metadata.
    Raises InputError on a TopK autoencoder, which SAELens defines differently.
    """
    if autoencoder.top_k is not None:
        raise InputError(
            "a TopK autoencoder is not written to SAELens, which finds the highest after weighting by "
            "decoder norms; write it to sparsify"
        )
    plain, jumps = autoencoder.folded(), bool(autoencoder.threshold_F.any())
    tensors = {
        "W_enc": plain.encoder_FD.detach().T,
        "b_enc": plain.encoder_bias_F.detach(),
        "W_dec": plain.decoder_FD.detach(),
        "b_dec": plain.decoder_bias_D.detach(),
    } | ({"threshold": plain.threshold_F} if jumps else {})
    config = {
        "architecture": "jumprelu" if jumps else "standard",
        "d_in": autoencoder.width,
        "d_sae": autoencoder.features,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {**about, "trained_scale": float(autoencoder.scale)},
    }
    _write(folder, SAELENS, tensors, config)


def write_sparsify(autoencoder: Autoencoder, folder: Path, about: Mapping[str, Any]) -> None:
    """Writes an autoencoder for sparsify, with `about` as metadata. A ReLU becomes a TopK of all features,
    which computes the same and is slower. Raises InputError on a JumpReLU.
    """
    if bool(autoencoder.threshold_F.any()):
        raise InputError("sparsify has no JumpReLU; write this autoencoder to SAELens")
    plain = autoencoder.folded()
    bias_F = plain.encoder_bias_F.detach() + plain.encoder_FD.detach() @ plain.decoder_bias_D.detach()
    tensors = {
        "encoder.weight": plain.encoder_FD.detach(),
        "encoder.bias": bias_F,
        "W_dec": plain.decoder_FD.detach(),
        "b_dec": plain.decoder_bias_D.detach(),
    }
    config = {
        "activation": "topk",
        "expansion_factor": 0,
        "normalize_decoder": False,
        "num_latents": autoencoder.features,
        "k": autoencoder.top_k or autoencoder.features,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": autoencoder.width,
        "metadata": {**about, "trained_scale": float(autoencoder.scale)},
    }
    _write(folder, SPARSIFY, tensors, config)


def _write(folder: Path, name: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / name)
    (folder / "cfg.json").write_text(json.dumps(config, indent=1) + "\n")


def read_autoencoder(folder: Path) -> tuple[Autoencoder, dict[str, Any]]:
    """An autoencoder in either format, and its configuration. Supported: SAELens' standard, jumprelu and topk
    (of unweighted features), and sparsify's topk.

    Raises InputError on missing files and tensors, unsupported kinds (gated, transcoders, normalisation or
    rescaling at run time), and shapes that disagree.
    """
    try:
        config = json.loads((folder / "cfg.json").read_text())
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{folder} holds no cfg.json of an autoencoder: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{folder / 'cfg.json'} holds no object")
    try:
        if (folder / SPARSIFY).exists():
            return _of_sparsify(load_tensors(folder / SPARSIFY), config), config
        if (folder / SAELENS).exists():
            return _of_saelens(load_tensors(folder / SAELENS), config), config
    except KeyError as error:
        raise InputError(f"the autoencoder in {folder} lacks {error}") from error
    except (RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the autoencoder in {folder} does not fit together: {error}") from error
    raise InputError(f"{folder} holds neither {SAELENS} (SAELens) nor {SPARSIFY} (sparsify)")


def _of_saelens(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Autoencoder:
    kind, expected = (
        config.get("architecture", "standard"),
        {"normalize_activations": "none", "reshape_activations": "none"},
    )
    odd = [
        f"{name} {config[name]!r}"
        for name, value in expected.items()
        if config.get(name, value) not in (value, None)
    ]
    if kind not in ("standard", "topk", "jumprelu") or odd:
        raise InputError(
            f"an autoencoder of SAELens of the kind {kind!r}{' with ' + ' and '.join(odd) if odd else ''} "
            "is not read; fold it there first"
        )
    if kind == "topk" and config.get("rescale_acts_by_decoder_norm"):
        norms_F = tensors["W_dec"].float().norm(dim=1)
        if not torch.allclose(norms_F, torch.ones_like(norms_F), atol=1e-3):
            raise InputError(
                "a TopK that weighs features by decoder norms is not read; fold the norms in SAELens "
                "(fold_W_dec_norm) first"
            )
    bias_F = tensors["b_enc"].float()
    if config.get("apply_b_dec_to_input", True):
        bias_F = bias_F - tensors["b_dec"].float() @ tensors["W_enc"].float()
    return _autoencoder(
        tensors["W_enc"].T,
        bias_F,
        tensors["W_dec"],
        tensors["b_dec"],
        threshold_F=tensors.get("threshold"),
        top_k=int(config["k"]) if kind == "topk" else None,
    )


def _of_sparsify(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Autoencoder:
    if config.get("transcode") or config.get("skip_connection") or config.get("activation", "topk") != "topk":
        raise InputError("of sparsify's autoencoders only TopK without a skip connection is read")
    top_k, features = int(config["k"]), len(tensors["W_dec"])
    bias_F = tensors["encoder.bias"].float() - tensors["encoder.weight"].float() @ tensors["b_dec"].float()
    return _autoencoder(
        tensors["encoder.weight"],
        bias_F,
        tensors["W_dec"],
        tensors["b_dec"],
        top_k=top_k if top_k < features else None,
    )


def _autoencoder(
    encoder_FD: Tensor,
    bias_F: Tensor,
    decoder_FD: Tensor,
    decoder_bias_D: Tensor,
    *,
    threshold_F: Tensor | None = None,
    top_k: int | None,
) -> Autoencoder:
    features, width = decoder_FD.shape
    if (
        encoder_FD.shape != decoder_FD.shape
        or bias_F.shape != (features,)
        or decoder_bias_D.shape != (width,)
    ):
        shapes = ", ".join(
            str(tuple(tensor.shape)) for tensor in (encoder_FD, bias_F, decoder_FD, decoder_bias_D)
        )
        raise InputError(f"encoder, its bias, decoder and its bias do not fit together: {shapes}")
    autoencoder = Autoencoder(width, features, seed=0, top_k=top_k)
    with torch.no_grad():
        autoencoder.encoder_FD.copy_(encoder_FD)
        autoencoder.encoder_bias_F.copy_(bias_F)
        autoencoder.decoder_FD.copy_(decoder_FD)
        autoencoder.decoder_bias_D.copy_(decoder_bias_D)
        if threshold_F is not None:
            autoencoder.threshold_F.copy_(threshold_F.clamp(min=0))  # a feature below 0 is none there either
    return autoencoder

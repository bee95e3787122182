"""Autoencoders written here, read by the libraries whose forms they are, where these are installed; and
theirs read here.
"""

from pathlib import Path

import pytest
import torch

from solon.interpretability.autoencoder import Autoencoder
from solon.interpretability.dictionary_files import read_autoencoder, write_saelens, write_sparsify


def made() -> tuple[Autoencoder, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    own = Autoencoder(12, 30, seed=0, scale=1.7)
    with torch.no_grad():
        own.encoder_bias_F.normal_(generator=generator)
        own.decoder_bias_D.normal_(generator=generator)
    return own, torch.randn(50, 12, generator=generator)


@pytest.mark.extra
def test_saelens_reads_and_writes_the_same(tmp_path: Path) -> None:
    sae = pytest.importorskip("sae_lens").SAE
    own, x_BD = made()
    write_saelens(own, tmp_path / "ours", {"model_name": "toy", "hook_name": "blocks.0.hook_resid_post"})
    peer = sae.load_from_disk(str(tmp_path / "ours"))
    with torch.no_grad():
        assert torch.allclose(peer.encode(x_BD), own.encode(x_BD), atol=1e-5) and torch.allclose(
            peer(x_BD), own(x_BD), atol=1e-5
        )
    peer.save_model(str(tmp_path / "theirs"))
    back, _ = read_autoencoder(tmp_path / "theirs")
    assert torch.allclose(back(x_BD), own(x_BD), atol=1e-5)


@pytest.mark.extra
def test_sparsify_reads_and_writes_the_same(tmp_path: Path) -> None:
    coder = pytest.importorskip("sparsify").SparseCoder
    own, x_BD = made()
    write_sparsify(own, tmp_path / "ours", {})
    peer = coder.load_from_disk(tmp_path / "ours")
    with torch.no_grad():
        assert torch.allclose(peer(x_BD).sae_out, own(x_BD), atol=1e-5)
    peer.save_to_disk(tmp_path / "theirs")
    back, _ = read_autoencoder(tmp_path / "theirs")
    assert torch.allclose(back(x_BD), own(x_BD), atol=1e-5)

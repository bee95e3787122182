"""A two-dimensional layout by UMAP (McInnes et al. 2018), as in the red-team paper: an extra, `pip install
solon[umap]`.
"""

from __future__ import annotations

import numpy as np
import umap


def layout(parts_NC: np.ndarray, seed: int) -> np.ndarray:
    """UMAP of (N, C) to (N, 2), with at most 15 neighbours; deterministic for a seed."""
    return np.asarray(
        umap.UMAP(n_neighbors=min(15, len(parts_NC) - 1), random_state=seed % 2**32).fit_transform(parts_NC)
    )

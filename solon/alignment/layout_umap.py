"""A map by UMAP (McInnes et al. 2018), as the red-team paper draws it: an extra, `pip install
solon[umap]`.
"""

from __future__ import annotations

import numpy as np
import umap


def layout(parts_NC: np.ndarray, seed: int) -> np.ndarray:
    """(N, C) to (N, 2); the same for the same seed."""
    return np.asarray(
        umap.UMAP(n_neighbors=min(15, len(parts_NC) - 1), random_state=seed % 2**32).fit_transform(parts_NC)
    )

"""The same posterior by numpyro's NUTS, the paper's own sampler: an extra (`pip install 'solon[nuts]'`)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro import distributions as dist
from numpyro.infer import MCMC, NUTS

from solon.studies.sycophancy.preference_features import Floats, Posterior, checked, split_r_hat


def posterior(
    phi_NF: Floats,
    preferred_N: Sequence[bool],
    *,
    b: float,
    draws: int = 6000,
    chains: int = 4,
    seed: int = 0,
) -> Posterior:
    """See `preference_features.posterior`."""
    y_N = checked(phi_NF, preferred_N, b)
    phi = jnp.asarray(phi_NF)

    def model(y: jax.Array) -> None:
        alpha = numpyro.sample("alpha", dist.Laplace(jnp.zeros(phi.shape[1]), b).to_event(1))
        numpyro.sample("y", dist.Bernoulli(logits=phi @ alpha), obs=y)

    mcmc = MCMC(
        NUTS(model),
        num_warmup=min(1000, draws),
        num_samples=draws,
        num_chains=chains,
        chain_method="sequential",
        progress_bar=False,
    )
    mcmc.run(jax.random.PRNGKey(seed), jnp.asarray(y_N))
    kept = np.asarray(mcmc.get_samples(group_by_chain=True)["alpha"], dtype=np.float64)
    return Posterior(kept.reshape(-1, kept.shape[-1]), "NUTS (numpyro)", split_r_hat(kept))

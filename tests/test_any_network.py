"""The engine against the reference, for networks that nobody thought of."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import numlstm
from numlstm import reference, spec
from tests.cases import Tolerance, random_input, random_weights
from tests.strategies import networks

# Functions such as exp and division by a small deviation make some of them ill-conditioned.
ANY = Tolerance(1e-3, 1e-3, "float32 against float64, through up to a dozen layers of any kind")
CALM, NUDGE = 1e3, 1e-6


@settings(max_examples=80)
@given(networks(), st.integers(1, 30), st.integers(0, 1000))
def test_any_network_is_the_reference(network, seq_len, seed):
    # Of two paths that are equally good either may be taken.
    assume(not any(isinstance(layer, spec.CRF) for layer in network.layers))
    weights = random_weights(network, seed)
    xs = random_input(network, seq_len, seed)
    masked = network.masked(xs)
    assume(masked is None or not masked.all())
    tensors = {name: tensor.astype(np.float64) for name, tensor in weights.tensors.items()}
    generator = np.random.default_rng(seed)
    nudged = {n: t * (1 + NUDGE * generator.uniform(-1, 1, t.shape)) for n, t in tensors.items()}
    with np.errstate(all="ignore"):  # what the functions do beyond where they are defined
        try:
            expected, _ = reference.run(network, tensors, xs)
            moved, _ = reference.run(network, nudged, xs)
        except ValueError:  # no rows are left to attend to
            assume(False)
    assume(np.isfinite(expected).all() and (np.abs(expected) < CALM).all())
    assume(moved.shape == expected.shape and (np.abs(moved - expected) < 1e-4).all())
    try:
        found = numlstm.Model(weights).run(xs)
    except ValueError as error:  # within, numbers are beyond float32, or no numbers
        if "overflow" not in str(error):
            raise
        assume(False)
    ANY.check(found, expected, str([str(layer) for layer in network.layers]))

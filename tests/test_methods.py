"""Every config: two steps on two devices equal two steps on one."""

import jax
import numpy as np
import optax
import pytest
from small import SIZE, shrink_networks, small_config
from test_configs import CONFIGS

from jaxseg import assemble, train
from jaxseg.core import init_state


def batches(classes, n=4, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(2):
        label = rng.integers(0, classes, (n, *SIZE)).astype(np.uint8)
        label[0, :20] = 255
        yield {
            "source_image": rng.integers(0, 256, (n, *SIZE, 3), dtype=np.uint8),
            "source_label": label,
            "target_image": rng.integers(0, 256, (n, *SIZE, 3), dtype=np.uint8),
        }


@pytest.mark.parametrize("name", CONFIGS)
def test_two_devices_equal_one(name, monkeypatch, tmp_path):
    shrink_networks(monkeypatch)
    config = small_config(name, tmp_path)
    assert config.net.norm == "train", "only shared statistics can be equal"
    method = assemble.method(config)
    # SGD: Adam would divide round-off by round-off. The discriminators' loss is not small.
    txs = {player: optax.sgd(0.05, momentum=0.9) for player in method.losses}
    results = []
    for devices in (1, 2):
        state = jax.jit(
            lambda k, method=method: init_state(method, txs, k, assemble.example(config))
        )(jax.random.PRNGKey(0))
        update = train.pmapped_update(method, txs, 1, jax.devices()[:devices])
        state = train.place(state, jax.devices()[:devices])
        for batch in batches(19):
            cut = {k: v.reshape(devices, -1, *v.shape[1:]) for k, v in batch.items()}
            state, metrics = update(state, cut)
            jax.block_until_ready(state)
        results.append(jax.device_get((state.params, state.stats, metrics)))
    for one, two in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)

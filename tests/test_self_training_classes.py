"""The losses of self-training count classes by how rare they are: those that a method reports,
against float64 NumPy.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.small import QUICK, K, on_one_device, three_channels

from jaxseg.engine.method import Carry
from jaxseg.methods import cbst, dacs
from jaxseg.methods.parts import masked, self_training
from jaxseg.methods.parts.appearance import StrongView
from jaxseg.methods.parts.classes import Rarity
from jaxseg.methods.parts.levels import upsampled
from jaxseg.methods.parts.self_training import Mixture

VIEW = StrongView(0.0, 0.0, 0.0)
RARE = (1.0, 5.0, 0.5)  # weights of the K classes


def counted(logits, labels, weights, kinds):
    """Mean weighted cross-entropy; `kinds` are (pixels, share of the class weights)."""
    logits, weights = np.float64(logits), np.float64(weights)
    top = logits.max(-1, keepdims=True)
    p = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
    valid = labels != 255
    names = np.where(valid, labels, 0)
    losses = -np.take_along_axis(p, names[..., None], -1)[..., 0] * weights
    own = np.array(RARE)[names]
    for pixels, share in kinds:
        mean = own[pixels & valid].mean() if (pixels & valid).any() else 1
        losses = np.where(pixels, losses * (1 - share + share * own / mean), losses)
    return losses[valid].mean()


@pytest.mark.parametrize("module", [dacs, cbst])
def test_pasted_pseudo_and_masked_losses_count_classes(module):
    linear = three_channels()

    def apply(params, stats, images, train, key=None, mask_ratio=0.0):
        del mask_ratio  # what is hidden is another test's
        return linear.apply(params, stats, images / 255, train, key)

    segmenter = linear._replace(apply=apply)
    given = dict(num_classes=K, segmentation_weights={"main": 1.0}, class_weights=RARE)
    given |= dict(weighted=0.5, pseudo_weighted=0.25)
    if module is dacs:
        given |= dict(jitter=0.0, blur_probability=0.0, threshold=0.5)
    settings = masked.Masking(1.0, tokens=True, view=VIEW, rarity=Rarity(0.75, RARE, 0.75))
    method = masked.masked(module.make(segmenter, **given), segmenter, {"main": 1.0}, settings)
    rng = np.random.default_rng(3)
    source, target = rng.uniform(0, 255, (2, 2, 6, 8, 3)).astype(np.float32)
    label = rng.integers(0, K, (2, 6, 8))
    label[:, 0] = 255
    batch = {"source_image": source, "source_label": label, "target_image": target}

    def look(key):
        params, stats, memory = method.init(key, batch)
        carry = Carry(jnp.zeros((), jnp.int32), stats, memory, {}, {})
        _, carry = method.losses["gen"](params, carry, batch, key)
        pseudo = carry.shared[self_training.PSEUDO]
        mix_key = jax.random.split(key, 3)[1]
        images, labels, weights = self_training.mixed(mix_key, batch, pseudo, K, Mixture(VIEW))
        net = params["gen"]["segmenter"]
        seen = [upsampled(apply(net, stats, x, True)[0]["main"], x) for x in (images, target)]
        return carry.metrics, (labels, weights), (pseudo.labels, pseudo.weights), seen

    program = jax.jit(on_one_device(look), compiler_options=QUICK)
    metrics, mixture, pseudo, seen = jax.tree.map(np.asarray, program(jax.random.PRNGKey(1)))
    everywhere = np.ones(label.shape, bool)
    if module is dacs:
        true = mixture[1] == 1
        assert 0 < true.mean() < 1 and pseudo[1].max() < 1
        expected = counted(seen[0], *mixture, [(true, 0.5), (~true, 0.25)])
        np.testing.assert_allclose(metrics["mixed/main"], expected, rtol=1e-5)
    else:
        expected = counted(seen[1], *pseudo, [(everywhere, 0.25)])
        np.testing.assert_allclose(metrics["pseudo/main"], expected, rtol=1e-5)
    expected = counted(seen[1], *pseudo, [(everywhere, 0.75)])
    np.testing.assert_allclose(metrics["masked"], expected, rtol=1e-5)

"""What self-training shows at each evaluation: the teacher's labels, how sure it is of them, and an
image that the segmenter learns from.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxseg.data.labels import IGNORE
from jaxseg.engine.method import AXIS, CLASSES, IMAGE, PAIR, PROBABILITY, TARGET, Carry, View
from jaxseg.errors import UserError
from jaxseg.methods.parts import align, teacher
from jaxseg.models.network import Network

SEED = 0  # of what views draw, so that those of two steps can be compared


def views(
    segmenter: Network,
    look: Callable,
    label: Callable,
    mix: Callable | None,
    of_teacher: bool,
    margins: Sequence[float],
) -> dict[str, View]:
    """The views of a method that learns from pseudo labels, {name: View}.

    They see batches of one image: the teacher's BatchNorm has the statistics of that image, as in
    training it has those of a batch.

    Args:
      segmenter: the task network.
      look: (the teacher, images) -> (its probabilities, the teacher).
      label: (the teacher's probabilities, carry) -> (pseudo labels, carry, metrics).
      mix: (key, batch, pseudo labels) -> (images, labels, weights); None without mixture.
      of_teacher: whether the prediction that is shown elsewhere is the teacher's; then the
        student's is shown here, and otherwise the teacher's.
      margins: see `self_training.make`; whole images are shown, so all are told by the size.
    """

    def pseudo_of(params, stats, memory, images):
        net = params["gen"]["segmenter"], stats["segmenter"]
        probabilities = _looked(look, teacher.present(memory, *net), images)
        carry = Carry(jnp.zeros((), jnp.int32), stats, memory, {}, {})
        found = label(probabilities, carry)[0]
        kept = teacher.inside(found.weights.shape, margins)
        return found._replace(weights=found.weights * kept)

    def pseudo(params, stats, memory, images):
        found = pseudo_of(params, stats, memory, images)
        return jnp.where(found.weights > 0, found.labels, IGNORE)

    def confidence(params, stats, memory, images):
        return pseudo_of(params, stats, memory, images).confidence

    def mixed(params, stats, memory, batch):
        found = pseudo_of(params, stats, memory, batch["target_image"])
        return mix(jax.random.PRNGKey(SEED), batch, found)

    def mixed_image(*model_and_batch):
        return mixed(*model_and_batch)[0].astype(jnp.float32)

    def mixed_label(*model_and_batch):
        _, labels, weights = mixed(*model_and_batch)
        return jnp.where(weights > 0, labels, IGNORE)

    def other(params, stats, memory, images):
        predict = teacher.evaluated(align.predictor(segmenter), not of_teacher)
        return jnp.argmax(predict(params, stats, memory, images), -1)

    whose = "student's" if of_teacher else "teacher's"
    found = {
        "pseudo": View(pseudo, CLASSES, TARGET, "pseudo label (black: not learnt)"),
        "confidence": View(confidence, PROBABILITY, TARGET, "teacher's confidence"),
        "other": View(other, CLASSES, TARGET, f"the {whose} prediction"),
    }
    if mix:
        found["mixed"] = View(mixed_image, IMAGE, PAIR, "mixed image")
        found["mixed_label"] = View(mixed_label, CLASSES, PAIR, "its label")
    return {name: v._replace(function=on_one_device(v.function)) for name, v in found.items()}


def _looked(look: Callable, present, images: jax.Array) -> jax.Array:
    """The teacher's probabilities. A network that pools the whole image has no statistics of one
    image there; the same image twice has its own.
    """
    try:
        return look(present, images)[0]
    except UserError:
        return look(present, jnp.concatenate([images, images]))[0][: len(images)]


def on_one_device(function: Callable) -> Callable:
    """The function where no device is mapped over: methods take means over `AXIS`."""

    def call(*args):
        with_axis = jax.tree.map(lambda x: jnp.asarray(x)[None], args)
        return jax.tree.map(lambda x: x[0], jax.vmap(function, axis_name=AXIS)(*with_axis))

    return call

"""The mean teacher of self-training: a moving average of the segmenter, and its pseudo labels.

Tarvainen and Valpola, "Mean teachers are better role models" (NeurIPS 2017); in segmentation DACS
(Tranheden et al., WACV 2021) and DAFormer (Hoyer et al., CVPR 2022). The teacher lies in
`State.memory`, so that checkpoints hold it and a resumed run goes on with the same one.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg.engine.method import AXIS, Carry
from jaxseg.errors import UserError
from jaxseg.methods.parts.levels import upsampled
from jaxseg.models.network import NO_DROPOUT, Network

NAME = "teacher"  # in State.memory


class Follow(NamedTuple):
    """How the teacher follows the student.

    Attributes:
      decay: the highest decay of the average; in update i, from 0, it is min(1 - 1 / (i + 1),
        decay), so that the teacher begins as the student.
      behind: False, DAFormer's order: update i stands before step i. True, that of DACS: update i
        stands after step i, which is before step i + 1 with the decay of i.
    """

    decay: float
    behind: bool = False


class PseudoLabels(NamedTuple):
    """What the teacher says of a batch of target images.

    Attributes:
      labels: int32 [N, H, W], the likeliest class of each pixel.
      weights: float32 [N, H, W], how much each pixel counts.
      confidence: float32 [N, H, W], the probability of that class.
    """

    labels: jax.Array
    weights: jax.Array
    confidence: jax.Array


def check(follow: Follow) -> None:
    """Raises UserError for a decay that is not 0 or more and below 1."""
    if not 0 <= follow.decay < 1:
        raise UserError(f"the teacher's decay is {follow.decay}: give 0 or more, and less than 1")


def empty(net: Any, stats: Any) -> dict[str, Any]:
    """The teacher before the first update; its numbers are not used.

    Args:
      net: the student's parameters.
      stats: the student's running statistics.

    Returns:
      {'params', 'stats', 'updates': int32 [], 'step': int32 [], the step after the last update}.
    """
    zeros = jax.tree.map(jnp.zeros_like, (net, stats))
    zero = jnp.zeros((), jnp.int32)
    return {"params": zeros[0], "stats": zeros[1], "updates": zero, "step": zero}


def updated(teacher: dict[str, Any], net: Any, stats: Any, step: jax.Array, follow: Follow):
    """The teacher of a step, from the student that the step begins with.

    Only parameters are averaged. The teacher's running statistics begin as the student's, and are
    then its own: `pseudo_labels` moves them. Several micro-batches of one step update it once.

    Args:
      teacher: as `empty` gives it, or as it was left by the step before.
      net, stats: parameters and running statistics of the student.
      step: int32 [], number of the step, from 0.
      follow: the decay.

    Returns:
      The same structure.
    """
    number = teacher["updates"]
    index = jnp.maximum(number - 1, 0) if follow.behind else number
    decay = jnp.minimum(1 - 1 / (index.astype(jnp.float32) + 1), follow.decay)
    decay = jnp.where(number == 0, 0.0, decay)
    fresh = step + 1 > teacher["step"]

    def average(old, new):
        mean = decay * old + (1 - decay) * lax.stop_gradient(new)
        return jnp.where(fresh, jnp.where(decay == 0, lax.stop_gradient(new), mean), old)

    def own(old, new):
        return jnp.where(number == 0, lax.stop_gradient(new), old)

    return {
        "params": jax.tree.map(average, teacher["params"], net),
        "stats": jax.tree.map(own, teacher["stats"], stats),
        "updates": number + fresh.astype(jnp.int32),
        "step": jnp.asarray(step + 1, jnp.int32),
    }


def look(segmenter: Network, teacher: dict[str, Any], images: jax.Array, mirrored: bool = False):
    """The teacher's probabilities of the main level, and the teacher with its statistics moved.

    BatchNorm uses the statistics of this batch, dropout is off: the references' choice.

    Args:
      segmenter: the task network.
      teacher: see `updated`.
      images: [N, H, W, 3].
      mirrored: averages with the probabilities of the mirrored images, mirrored back (VFM-UDA).

    Returns:
      float32 [N, H, W, K], constants to differentiation, and the teacher.
    """

    def seen(images, stats):
        outputs, stats = segmenter.apply(teacher["params"], stats, images, True, NO_DROPOUT)
        return jax.nn.softmax(upsampled(outputs["main"], images), -1), stats

    probabilities, stats = seen(images, teacher["stats"])
    if mirrored:
        other, stats = seen(images[:, :, ::-1], stats)
        probabilities = (probabilities + other[:, :, ::-1]) / 2
    return lax.stop_gradient((probabilities, {**teacher, "stats": stats}))


def pseudo_labels(probabilities: jax.Array, threshold: float, margins=(0.0, 0.0)) -> PseudoLabels:
    """Labels of all pixels, weighed by how sure the teacher is of the batch as a whole.

    The weight is one number for the batch of all devices, the share of its pixels whose label has
    at least the probability `threshold` (DACS calls it threshold_uniform). In the margins it is 0.

    Args:
      probabilities: [N, H, W, K].
      threshold: 0.968 in the papers.
      margins: (top, bottom) in shares of the height, or (top, bottom, left, right), for pixels of
        the car that carries the camera and of the border of a rectified image; DAFormer's are 15
        and 120 of 512 rows.
    """
    confidence, labels = probabilities.max(-1), jnp.argmax(probabilities, -1).astype(jnp.int32)
    sure = lax.pmean(jnp.mean(confidence >= threshold, dtype=jnp.float32), AXIS)
    return PseudoLabels(labels, inside(labels.shape, margins) * sure, confidence)


def inside(shape: tuple[int, int, int], margins) -> jax.Array:
    """float32 [N, H, W]: 0 in the margins (top, bottom[, left, right]), shares of height and width;
    1 elsewhere.
    """

    def kept(length, first, last):
        place = jnp.arange(length)
        return (place >= round(first * length)) & (place < length - round(last * length))

    top, bottom, left, right = (*margins, 0.0, 0.0)[:4]
    both = kept(shape[1], top, bottom)[:, None] & kept(shape[2], left, right)
    return jnp.broadcast_to(both.astype(jnp.float32), shape)


def present(memory: dict[str, Any], net: Any, stats: Any) -> dict[str, Any]:
    """The teacher as it is; before its first update the student (`net`, `stats`) stands for it."""
    teacher = memory[NAME]

    def latest(old, new):
        return jnp.where(teacher["updates"] > 0, old, new)

    return {
        **teacher,
        "params": jax.tree.map(latest, teacher["params"], net),
        "stats": jax.tree.map(latest, teacher["stats"], stats),
    }


def evaluated(predict, of_teacher: bool):
    """`predict` of the student, or of the teacher with the teacher's statistics once there is one.

    Args:
      predict: (params, stats, memory, images) -> anything, of the network 'segmenter'.
      of_teacher: whose.
    """
    if not of_teacher:
        return predict

    def from_teacher(params, stats, memory, images):
        teacher = present(memory, params["gen"]["segmenter"], stats["segmenter"])
        params = {**params, "gen": {**params["gen"], "segmenter": teacher["params"]}}
        return predict(params, {**stats, "segmenter": teacher["stats"]}, memory, images)

    return from_teacher


def remembered(carry: Carry, teacher: dict[str, Any]) -> Carry:
    """The carry with this teacher in its memory."""
    return carry._replace(memory={**carry.memory, NAME: teacher})

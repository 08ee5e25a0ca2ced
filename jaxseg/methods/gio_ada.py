"""GIO-Ada: geometry-guided input and output adaptation (Chen, Li, Chen and Van Gool, "Learning
Semantic Segmentation from Synthetic Data", CVPR 2019).

An image transform network turns a rendered image, with the help of its labels and depth, into one
that a first discriminator takes for real; the task network learns labels and depth from it, and a
second discriminator is to take its joint output for that on real images. The discriminators move
first, the networks then against the discriminators as they have become (`alternate`), with the
rendered batch alone: the real one is looked at in the discriminators' turn.

The authors published no code. docs/methods.md says what is theirs and what is a choice made here.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg.engine.method import IMAGE, SOURCE, Method, Tile, View
from jaxseg.losses import adversarial
from jaxseg.methods.parts import align, average
from jaxseg.methods.parts import depth as parts_depth
from jaxseg.methods.parts import memory as parts_memory
from jaxseg.methods.parts.gio_maps import GUIDES, guided, joint, to_levels, to_unit
from jaxseg.models.network import Network

NETWORKS = ("segmenter", "translator", "discriminator")
INPUT, OUTPUT = "input", "output"  # the levels, and the names of their discriminators

TITLES = {  # two networks play against two discriminators
    "loss/gen": "Loss of the generator side",
    "loss/disc": "Loss of the discriminators",
    "adversarial": "Adversarial losses of the generator side",
    "discriminator": "Loss of each discriminator",
    "accuracy": "Accuracy of the discriminators",
    "r1": "Steepness of the discriminators (R1)",
    "transform": "Change of source images, grey levels",
}


def make(
    segmenter: Network,
    translator: Network,
    discriminator: Network,
    *,
    num_classes: int,
    segmentation_weights: Mapping[str, float],
    lam_input: float,
    lam_output: float,
    lam_depth: float,
    depth_loss: str = "l1",
    depth_encoding: str = "inverse",
    depth_near: float = 1.0,
    depth_far: float = 80.0,
    guides: Sequence[str] = GUIDES,
    lam_identity: float = 0.0,
    task_gradient: bool = True,
    gan: str = "vanilla",
    smooth: float = 0.0,
    r1: float = 0.0,
    r1_every: int = 1,
    pool: int = 0,
    ramp_steps: int = 0,
    ema: float = 0.0,
    statistics: str = "both",
) -> Method:
    """Builds the method. A part whose weight is 0 has no network, and nothing of it is computed.

    Args:
      segmenter: the task network, {'main': logits, 'depth': [N,h,w,1]}; the latter is not asked for
        without `lam_depth`.
      translator: [N,H,W,3 + K + 1] -> {'image': [N,H,W,3] in -1..1}; see `_gio_maps.guided`.
      discriminator: one definition; each of the two levels has its own parameters.
      num_classes: K.
      segmentation_weights: by output level of the task network.
      lam_input: weight of the discriminator of images; 0: the images are learnt from as they are.
      lam_output: weight of the discriminator of outputs.
      lam_depth: weight of the depth loss on the source.
      depth_loss: 'l1' or 'berhu', in encoded units.
      depth_encoding, depth_near, depth_far: see `losses.depth.encode`; metres.
      guides: what helps the transform network, some of 'label' and 'depth'.
      lam_identity: weight of the mean absolute change of the image, in -1..1 (SimGAN's
        self-regularisation, Shrivastava et al., CVPR 2017).
      task_gradient: whether the task's losses and the discriminator of outputs reach the transform
        network, as the recipe has it. It can then paint the labels it is helped by into the image,
        for the task network to read off.
      gan: adversarial loss, 'vanilla' or 'ls'.
      smooth: what the discriminators' label of real things is less than 1.
      r1: the discriminators pay r1 / 2 times the squared gradient by the real things of a place's
        mean score, see `losses.adversarial.r1`; 0 for none.
      r1_every: computed in every so many steps, and then as many times as heavy.
      pool: how many transformed images are kept for the discriminator of images to be shown again;
        0 for none.
      ramp_steps: steps of adversarial play over which what is asked of the networks for the
        discriminators' sake grows to its full weight; 0 for all of it at once.
      ema: decay of the task network's average that is evaluated, see `_average`; 0 for none.
      statistics: whose images move the running statistics: 'source' (transformed), 'target', or
        'both', the target's first.

    Raises:
      ValueError: a setting out of range.
    """
    align.check_statistics(statistics)
    _check(lam_input, lam_output, lam_identity, guides, r1, r1_every, pool, ramp_steps)
    domain_loss = adversarial.by_name(gan)
    adversarial.label(adversarial.TARGET, smooth)
    encoding = parts_depth.Depth(lam_depth, depth_loss, depth_encoding, depth_near, depth_far)
    depth = parts_depth.checked(encoding)
    weights = {level: w for level, w in ((INPUT, lam_input), (OUTPUT, lam_output)) if w}
    if not weights:
        levels = align.Levels(dict(segmentation_weights), {})
        alone = align.make(segmenter, levels, statistics=statistics, depth=depth)
        return average.averaged(alone, ema)
    supervised = align.supervise(segmenter, segmentation_weights, depth=depth)
    asked = ("main", parts_depth.LEVEL) if depth else ("main",)

    def transformed(own, batch):
        """The source's images in -1..1 as the task network learns from them."""
        if INPUT not in weights:
            return to_unit(batch["source_image"])
        outputs, _ = translator.apply(
            own["translator"], {}, guided(batch, guides, num_classes, encoding), True
        )
        return outputs["image"]

    def shown(images, batch):
        """What the task network is given: untransformed images are left as they are."""
        return to_levels(images) if INPUT in weights else batch["source_image"]

    def init(key, batch):
        keys = dict(zip(("segmenter", "translator", INPUT, OUTPUT), jax.random.split(key, 4),
                        strict=True))  # fmt: skip
        batch = {name: value[:1] for name, value in batch.items()}
        net, stats = segmenter.init(keys["segmenter"], batch["source_image"])
        params, running = {"gen": {"segmenter": net}, "disc": {}}, {"segmenter": stats}
        if INPUT in weights:
            seen = guided(batch, guides, num_classes, encoding)
            params["gen"]["translator"] = translator.init(keys["translator"], seen)[0]

        def maps(images):
            found = segmenter.apply(net, stats, images, False)[0]
            return joint({level: align.upsampled(found[level], images) for level in asked}, depth)

        seen = {INPUT: jax.eval_shape(to_unit, batch["source_image"])}
        seen[OUTPUT] = jax.eval_shape(maps, batch["source_image"])
        for level in weights:
            zeros = jnp.zeros(seen[level].shape, jnp.float32)
            params["disc"][level], moving = discriminator.init(keys[level], zeros)
            running |= {level: moving} if moving else {}
        memory = {}
        if pool and INPUT in weights:
            memory["pool"] = parts_memory.empty_pool(pool, seen[INPUT].shape[1:])
        if ramp_steps:
            memory["began"] = jnp.full((), -1, jnp.int32)  # the first step of adversarial play
        return params, running, memory

    def disc(params, carry, batch, key):
        # The networks' parameters do not move before their own turn, where the same images and
        # outputs are computed again from the same key, then with a gradient.
        source_key, target_key, pool_key = jax.random.split(key, 3)
        own, memory = params["gen"], dict(carry.memory)
        images = transformed(own, batch)
        real, fake = {INPUT: to_unit(batch["target_image"])}, {INPUT: images}
        if OUTPUT in weights:
            found, _ = segmenter.apply(
                own["segmenter"],
                carry.stats["segmenter"],
                shown(images, batch),
                True,
                source_key,
            )
            fake[OUTPUT] = joint({x: align.upsampled(found[x], images) for x in asked}, depth)
        if OUTPUT in weights or statistics != "source":
            look = align.look_at_target(segmenter, asked, statistics, carry)
            found, carry = look(own, carry, batch, target_key)
            real[OUTPUT] = joint(found, depth)
        if "pool" in memory:
            fake[INPUT], memory["pool"] = parts_memory.pooled(memory["pool"], images, pool_key)
        if ramp_steps:
            began = memory["began"]
            memory["began"] = jnp.where(began < 0, carry.step, began)

        total, metrics, stats = 0.0, {}, carry.stats
        for level, weight in weights.items():
            of_real, stats = align.judge(discriminator, params, stats, level, real[level], True)
            of_fake, stats = align.judge(discriminator, params, stats, level, fake[level], True)
            value = jnp.mean(domain_loss(of_real, adversarial.TARGET, smooth))
            value += jnp.mean(domain_loss(of_fake, adversarial.SOURCE))
            metrics[f"discriminator/{level}"] = value
            metrics[f"accuracy/{level}"] = adversarial.accuracy(of_fake, of_real, gan)
            if r1:
                penalty = steepness(params, stats, level, real[level], carry.step)
                metrics[f"r1/{level}"] = penalty
                value += 0.5 * r1 * penalty
            total += weight * value
        shared = {"key": source_key}
        return total, carry._replace(
            stats=stats, memory=memory, shared=shared, metrics={**carry.metrics, **metrics}
        )

    def steepness(params, stats, level, real, step):
        """R1's squared gradient; in the steps without it, 0."""

        def score(maps):
            scores, _ = align.judge(discriminator, params, stats, level, maps, False)
            return jnp.mean(scores, axis=(1, 2, 3))

        def penalty():
            return r1_every * jnp.mean(adversarial.r1(score, real))

        if r1_every == 1:
            return penalty()
        return lax.cond(step % r1_every == 0, penalty, lambda: jnp.zeros((), jnp.float32))

    def gen(params, carry, batch, key):
        del key  # see `disc`
        own, before = params["gen"], carry.stats
        images = transformed(own, batch)
        seen = images if task_gradient else lax.stop_gradient(images)
        learnt = {**batch, "source_image": shown(seen, batch)}
        total, found, carry = supervised(own, carry, learnt, carry.shared["key"])
        carry = carry._replace(stats=before) if statistics == "target" else carry
        maps, metrics = {INPUT: images, OUTPUT: joint(found, depth)}, {}
        ramp = 1.0
        if ramp_steps:
            played = carry.step - carry.memory["began"] + 1
            ramp = jnp.minimum(played.astype(jnp.float32) / ramp_steps, 1.0)
        for level, weight in weights.items():
            scores, _ = align.judge(discriminator, params, carry.stats, level, maps[level], False)
            value = jnp.mean(domain_loss(scores, adversarial.TARGET))
            metrics[f"adversarial/{level}"] = value
            total += ramp * weight * value
        if INPUT in weights:
            moved = to_levels(images) - batch["source_image"].astype(jnp.float32)
            change = jnp.mean(jnp.abs(moved))
            metrics["transform/change"] = change
            total += lam_identity * change / 127.5
        return total, carry._replace(metrics={**carry.metrics, **metrics})

    def warmup(params, carry, batch, key):
        total, _, carry = supervised(params["gen"], carry, batch, jax.random.split(key)[0])
        return total, carry

    def transform(params, stats, memory, batch):
        del stats, memory
        return to_levels(transformed(params["gen"], batch))

    changed = {}
    if INPUT in weights:
        changed["transformed"] = View(transform, IMAGE, SOURCE, "transformed")
    needs_depth = depth or (INPUT in weights and "depth" in guides)
    method = Method(
        init,
        {"disc": disc, "gen": gen},
        align.predictor(segmenter),
        alternate=True,
        warmup={"gen": warmup},
        reads=("source_image", "source_label", *(("source_depth",) if needs_depth else ()),
               "target_image"),
        views={**parts_depth.views(segmenter, depth), **changed},
        titles=TITLES,
        tiles={"transform/change": Tile("change of source images", "of 255")} if changed else {},
    )  # fmt: skip
    return average.averaged(method, ema)


def _check(lam_input, lam_output, lam_identity, guides, r1, r1_every, pool, ramp_steps):
    given = dict(lam_input=lam_input, lam_output=lam_output, lam_identity=lam_identity, r1=r1,
                 pool=pool, ramp_steps=ramp_steps)  # fmt: skip
    for name, value in given.items():
        if not value >= 0:
            raise ValueError(f"{name}={value} is negative")
    if r1_every < 1:
        raise ValueError(f"r1_every={r1_every}: give at least 1")
    if unknown := [guide for guide in guides if guide not in GUIDES]:
        raise ValueError(f"guides has {unknown[0]!r}; choose from {', '.join(GUIDES)}")

"""How a config or a run translates source images, for writing them to disk."""

import hashlib
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxseg.data import pipeline, transforms
from jaxseg.engine.method import IMAGE, SOURCE, view_of
from jaxseg.errors import UserError
from jaxseg.experiment import batches, check
from jaxseg.experiment import settings as experiment_settings
from jaxseg.experiment.method import make_method
from jaxseg.experiment.restore import Loaded
from jaxseg.methods.parts.gio_maps import to_levels, to_unit
from jaxseg.models.cyclegan import Generator
from jaxseg.models.network import network
from jaxseg.storage.weights import files, merge, rename_cyclegan

Translate = Callable[[dict[str, Any]], np.ndarray]


class Way(NamedTuple):
    """A translation of source images.

    Attributes:
      facts: what it is, for the folder that it writes: {'by': ..., ...}. Two translations with
        equal facts give equal images of the same source.
      translate: {'id', 'image' uint8 [n,H,W,3], 'label', perhaps 'depth'} -> uint8 [n,H,W,3].
    """

    facts: dict[str, Any]
    translate: Translate


def learnt(config: ConfigDict) -> bool:
    """Whether the config's method learns to translate, so that a trained run is needed.

    Raises:
      UserError: neither the method nor the augmentation changes the look of source images.
    """
    if view_of(make_method(config), IMAGE, SOURCE):
        return True
    if any(config.augment.source.get(name) for name in transforms.LOOKS):
        return False
    raise UserError(
        f"{config.name} does not translate images: take configs/cyclegan.py, cycada.py or "
        "gio_ada.py, or set one of --config.augment.source.lab, histogram (1) or fda (0.01), or "
        "give a CycleGAN generator as --weights=FILE"
    )


def of_run(loaded: Loaded) -> Way:
    """The translation that a run has learnt."""
    view = view_of(loaded.method, IMAGE, SOURCE)
    model = jax.device_put(tuple(loaded.model[key] for key in ("params", "stats", "memory")))
    look = jax.jit(lambda model, batch: _rounded(view.function(*model, batch)))

    def translate(batch):
        seen = {f"source_{key}": batch[key] for key in ("image", "label", "depth") if key in batch}
        return np.asarray(look(model, seen))

    facts = {"by": loaded.config.name, **loaded.facts, "network": _digest(loaded.model)}
    return Way(facts, translate)


def of_looks(config: ConfigDict) -> Way:
    """The look of a target image, drawn for each source image by its name: Lab, histogram, FDA."""
    check.check_band(config)
    chosen = {name: config.augment.source[name] for name in transforms.LOOKS}
    chosen = {name: value for name, value in chosen.items() if value}
    applied = {name: value if name == "fda" else 1.0 for name, value in chosen.items()}
    target = config.data.target
    others = batches.open_records(config, target, target.split)

    def one(name, image, label):
        rng = np.random.default_rng([config.seed, zlib.crc32(name.encode())])
        record = others[int(rng.integers(len(others)))]
        where = others.where(record)
        size = image.shape[:2]  # with kept proportions not `data.source.size`
        other = transforms.decode(record, where=where, size=size, keys=("image",))["image"]
        sample = {"image": image, "label": label}
        return transforms.augment_sample(sample, rng, **applied, reference=other)["image"]

    def translate(batch):
        rows = zip(batch["id"], batch["image"], batch["label"], strict=True)
        with ThreadPoolExecutor(max(1, config.data.threads)) as pool:
            found = pool.map(lambda row: one(*row) if row[0] else row[1], rows)
            return np.stack(list(found))

    facts = {"by": " and ".join(applied), **applied, "seed": config.seed}
    return Way(facts | {"target": about(config, "target")}, translate)


def of_file(path: str) -> Way:
    """A published CycleGAN generator.

    Raises:
      UserError: the file is no such generator.
    """
    tensors = files.load(path)
    if not rename_cyclegan.is_generator(tensors):
        raise UserError(f"{path}: not a generator of CycleGAN with residual blocks")
    net = network(Generator(*rename_cyclegan.sizes(tensors)))
    image = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    wanted = jax.eval_shape(net.init, jax.random.PRNGKey(0), image)
    params, _, report = merge.merge(*wanted, rename_cyclegan.generator(tensors))
    if report.missing or report.mismatched or report.left_over:
        wrong = [*report.missing, *report.mismatched, *report.left_over][0]
        raise UserError(f"{path}: not CycleGAN's generator as published; see {wrong}")
    params = jax.device_put(params)
    look = jax.jit(
        lambda params, images: _rounded(to_levels(net.apply(params, {}, images, False)[0]["image"]))
    )
    return Way(
        {"by": "CycleGAN", "weights": str(path), "network": _digest(params)},
        lambda batch: np.asarray(look(params, to_unit(jnp.asarray(batch["image"])))),
    )


def about(config: ConfigDict, side: str) -> dict[str, Any]:
    """Which images a translation reads from the source or target: name, split, size, options."""
    return config.data[side].to_dict()


def _digest(model: Any) -> str:
    """Tells networks apart that are alike but for their weights: 16 hexadecimal digits."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get(model)):
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()[:16]


def _rounded(levels: jax.Array) -> jax.Array:
    return jnp.clip(jnp.round(levels), 0, 255).astype(jnp.uint8)


def source_batches(config: ConfigDict) -> tuple[int, Iterator[dict[str, Any]]]:
    """Every training image of the source once, in order, at `data.source.size`.

    Returns:
      The number of batches, and the batches: 'id' texts, 'image' uint8 [n,H,W,3], 'label' uint8
      [n,H,W] in the learnt classes, 'valid' bool [n], and 'depth' float32 [n,H,W] where the records
      hold it; see `pipeline.eval_batches`.
    """
    return _every(config, "source", ("depth",))


def target_batches(config: ConfigDict) -> tuple[int, Iterator[dict[str, Any]]]:
    """The same of the target's training images, whose labels are not read."""
    return _every(config, "target", ())


def _every(config: ConfigDict, side: str, keys: tuple[str, ...]):
    data = config.data[side]
    size = experiment_settings.size_of(f"data.{side}.size", data.size)
    opened = batches.open_records(config, data, data.split)
    table = batches.table(config, opened) if side == "source" else None
    found = pipeline.eval_batches(
        opened, size=size, label_size=size, batch=config.eval.batch, table=table, keys=keys,
        threads=config.data.threads,
    )  # fmt: skip
    return -(-len(opened) // config.eval.batch), found

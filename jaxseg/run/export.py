"""`--mode=export`: a trained network as a file that is used without jaxseg."""

import functools
import importlib.util
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxseg.data.labels import LabelSet
from jaxseg.errors import UserError
from jaxseg.experiment import finished, settings
from jaxseg.experiment.finished import Wanted
from jaxseg.experiment.method import make_predictor
from jaxseg.resize import resize_bilinear
from jaxseg.storage import run_folder

SUFFIXES = {"jax": ".npz", "onnx": ".onnx"}
LIMIT = 1e-4  # largest difference of logits, as a share of the largest logit
BATCHES = (1, 2)  # with which a file is checked
DEFAULT = Wanted()


def export(
    config: ConfigDict,
    workdir: str,
    format: str,
    output: str | None = None,
    size: tuple[int, int] | None = None,
    wanted: Wanted = DEFAULT,
) -> dict[str, Any]:
    """Writes a network with its preprocessing, resizing and argmax as one file, and checks it.

    The file maps `image`, uint8 [N, H, W, 3] RGB for any N, to `ids`, uint8 [N, H, W], and
    `logits`, float32 [N, h, w, K] as the network puts them out. It follows the protocol of
    `config.eval`.

    Args:
      config: of the experiment.
      workdir: of the run.
      format: 'jax' or 'onnx'; both compute in float32.
      output: the file; <workdir>/network.npz or .onnx by default.
      size: (H, W) of images, `data.target.size` by default.
      wanted: the network; see `Wanted`.

    Returns:
      {'file', 'bytes', 'difference', 'ids'}; see `difference`.

    Raises:
      UserError: a missing package, an operation without a counterpart in ONNX, or a file whose
        results are not those of jaxseg. No file is left then.
    """
    if format not in SUFFIXES:
        raise UserError(f"--format={format}; choose one of {', '.join(SUFFIXES)}")
    _needed(format)
    finished.prepare(config)
    # The weights are float32, and no two programs agree in bfloat16 as files are checked here.
    config.net.dtype = "float32"
    wanted = wanted._replace(given=(*wanted.given, "net.dtype"))
    loaded = finished.load(config, workdir, wanted)
    size = size or settings.size_of("data.target.size", config.data.target.size)
    predict = make_predictor(loaded.config, loaded.method)
    model = tuple(jax.device_get(loaded.model[key]) for key in ("params", "stats", "memory"))
    file = {"jax": jax_file, "onnx": onnx_file}[format](
        predict, model, size, settings.label_set(loaded.config)
    )
    call = {"jax": jax_caller, "onnx": onnx_caller}[format](file)
    found = difference(call, predict, model, size)
    if found["difference"] > LIMIT or found["ids"]:
        raise UserError(
            f"--format={format}: the exported network differs from jaxseg by "
            f"{found['difference']:.1e} of the largest logit, and in {found['ids']} clear pixels; "
            "nothing was written. Please report the network's settings"
        )
    path = output or os.path.join(workdir, f"network{SUFFIXES[format]}")
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        run_folder.write_whole(path, lambda opened: opened.write(file))
    except OSError as error:
        raise UserError(f"cannot write --output={path}: {error}") from error
    print(
        f"{loaded.name} as {path}: {len(file) / 1e6:.1f} MB, images of {size[0]}x{size[1]}, "
        f"checked with batches of {' and '.join(map(str, BATCHES))}: logits differ by "
        f"{found['difference']:.1e} of the largest, class ids are equal"
    )
    return {"file": path, "bytes": len(file), **found}


def _needed(format):
    packages = {"jax": ("flatbuffers",), "onnx": ("onnx", "onnxruntime")}[format]
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    extra = {"jax": "export", "onnx": "onnx"}[format]
    if missing:
        raise UserError(
            f"--format={format} needs {' and '.join(missing)}: pip install 'jaxseg[{extra}]'"
        )


def segmented(predict: Callable, model: tuple, image: jax.Array, size: tuple[int, int]) -> dict:
    """What a file computes: {'ids' uint8 [N, H, W], 'logits' float32 [N, h, w, K]}.

    One image at a time, vectorised: a network's program then does not depend on their number.
    """

    def one(image):
        logits = predict(*model, image[None]).astype(jnp.float32)
        ids = jnp.argmax(resize_bilinear(logits, size), -1).astype(jnp.uint8)
        return {"ids": ids[0], "logits": logits[0]}

    return jax.vmap(one)(image)


def plain(predict: Callable, model: tuple, image: jax.Array, size: tuple[int, int]) -> dict:
    """The same as `segmented` for a batch at once, as evaluation computes it."""
    logits = predict(*model, image).astype(jnp.float32)
    ids = jnp.argmax(resize_bilinear(logits, size), -1).astype(jnp.uint8)
    return {"ids": ids, "logits": logits}


def jax_file(predict: Callable, model: tuple, size: tuple[int, int], classes: LabelSet) -> bytes:
    """The bytes of a `jax` file; see `storage.export.jax_file`."""
    from jaxseg.storage.export import jax_file

    leaves, tree = jax.tree_util.tree_flatten_with_path(model)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    weights = {name: np.asarray(leaf) for name, (_, leaf) in zip(names, leaves, strict=True)}

    def function(weights: Mapping[str, Any], image: jax.Array) -> dict[str, jax.Array]:
        # What is left out has no influence, but its layers look at its shape.
        given = [
            weights[name] if name in weights else jnp.zeros(leaf.shape, leaf.dtype)
            for name, (_, leaf) in zip(names, leaves, strict=True)
        ]
        return segmented(predict, jax.tree.unflatten(tree, given), image, size)

    about = {
        "classes": np.array(classes.classes),
        "colours": np.array(classes.palette, np.uint8),
        "size": np.array(size),
    }
    return jax_file.archive(function, weights, size, about)


def onnx_file(predict: Callable, model: tuple, size: tuple[int, int], classes: LabelSet) -> bytes:
    """The bytes of an ONNX model; see `storage.export.onnx_file`."""
    from jaxseg.storage.export import onnx_file

    about = {
        "classes": json.dumps(classes.classes),
        "colours": json.dumps(classes.palette),
        "size": json.dumps(size),
    }
    model = jax.tree.map(jnp.asarray, model)
    function = functools.partial(segmented, predict, model, size=size)
    return onnx_file.model(function, size, about).SerializeToString()


def jax_caller(file: bytes) -> Callable[[np.ndarray], Mapping[str, np.ndarray]]:
    """Image -> outputs of the file, by JAX."""
    from jaxseg.storage.export import jax_file

    return jax_file.load(file)[0]


def onnx_caller(file: bytes) -> Callable[[np.ndarray], Mapping[str, np.ndarray]]:
    """Image -> outputs of the file, by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda image: dict(zip(names, session.run(names, {"image": image}), strict=True))


def difference(
    call: Callable,
    predict: Callable,
    model: tuple,
    size: tuple[int, int],
    batches: Sequence[int] | None = None,
) -> dict[str, float]:
    """Compares a file's outputs with jaxseg's on random images, for each number of images.

    Args:
      call: (image uint8 [N, H, W, 3]) -> outputs of the file.
      predict, model, size: of `segmented`.
      batches: numbers of images, `BATCHES` by default.

    Returns:
      'difference': the largest of logits, as a share of the largest logit; 'ids': the number of
      pixels with another class although the two best are further apart than `LIMIT` allows.
    """

    @jax.jit
    def ours(model, image):
        logits = predict(*model, image).astype(jnp.float32)
        resized = resize_bilinear(logits, size)
        ids = jnp.argmax(resized, -1)
        others = jnp.where(jax.nn.one_hot(ids, resized.shape[-1], dtype=bool), -jnp.inf, resized)
        return logits, ids, resized.max(-1) - others.max(-1)

    # It runs once for each batch: on a CPU, optimising it takes longer than that saves.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    draw, largest, wrong = np.random.default_rng(0), 0.0, 0
    for count in batches or BATCHES:
        coarse = draw.integers(0, 256, (count, -(-size[0] // 16), -(-size[1] // 16), 3), np.uint8)
        image = coarse.repeat(16, 1).repeat(16, 2)[:, : size[0], : size[1]]
        image = image // 2 + draw.integers(0, 128, image.shape, np.uint8)
        compiled = ours.lower(model, image).compile(compiler_options=options)
        logits, ids, margin = map(np.asarray, compiled(model, image))
        found = call(image)
        scale = max(float(np.abs(logits).max()), np.finfo(np.float32).tiny)
        largest = max(largest, float(np.abs(np.asarray(found["logits"]) - logits).max()) / scale)
        clear = margin > 2 * LIMIT * scale
        wrong += int(((np.asarray(found["ids"]) != ids) & clear).sum())
    return {"difference": largest, "ids": wrong}

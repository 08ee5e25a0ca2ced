"""Run folders as training and benchmarks leave them."""

import json

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import abstract_state
from jaxseg.storage import run_folder
from jaxseg.storage.checkpoints import checkpoint


def fabricate(folder, name, mious, finished=True):
    workdir = folder / name
    workdir.mkdir(parents=True)
    lines = [{"kind": "train", "step": 5, "loss/gen": 1.0}]
    lines += [{"kind": "eval", "step": 10 * i, "miou": m, "iou": {}} for i, m in enumerate(mious)]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "ev'  # a torn line
    (workdir / "metrics.jsonl").write_text(text)
    if finished:
        (workdir / "report.html").write_text("")
    return workdir


def shapes_of(config):
    method, players = make_method(config), make_optimisers(config)
    return abstract_state(config, method, players)


def drawn(config, seed, shapes=None):
    """A state with random values from NumPy, without compilation or training."""
    draw = np.random.default_rng(seed)

    def leaf(path, shape):
        if not np.issubdtype(shape.dtype, np.floating):
            return np.zeros(shape.shape, shape.dtype)
        spread = draw.normal(0, 0.2, shape.shape)
        name = path[-1].key if hasattr(path[-1], "key") else ""
        return (spread + (name in ("scale", "var"))).clip(0.1 if name == "var" else None)

    state = jax.tree_util.tree_map_with_path(leaf, shapes or shapes_of(config))
    return jax.tree.map(lambda x: x.astype(np.float32) if x.dtype == float else x, state)


def write_run(config, workdir, scores):
    """A run whose checkpoints have the `scores` {step: mIoU or metrics}."""
    shapes = shapes_of(config)
    with checkpoint.open_manager(workdir / "checkpoints", keep=9) as manager:
        for step, score in scores.items():
            state = drawn(config, step, shapes)._replace(step=np.int32(step))
            metrics = score if isinstance(score, dict) else {"miou": score}
            checkpoint.save(manager, state, config.to_dict(), metrics)
    run_folder.write_config(config, workdir)
    return workdir


PARTS = {"downsample_conv": "downsample.0", "downsample_bn": "downsample.1"}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean",
          "var": "running_var"}  # fmt: skip


def reference_names(params, stats):
    """A segmenter under the references' names and layouts, as AdaptSegNet saves it."""
    tensors = {}
    for name, array in {**flatten_dict(params, sep="/"), **flatten_dict(stats, sep="/")}.items():
        *path, leaf = name.split("/")
        if path[0] == "backbone":
            stage, _, block = path[1].partition("_block")
            parts = [stage, block, PARTS.get(path[-1], path[-1])] if block else [path[1]]
        else:
            head = {"main_head": "layer6", "aux_head": "layer5"}[path[0]]
            parts = [head, "conv2d_list", path[1].removeprefix("branch")]
        array = np.asarray(array)
        array = array.transpose(3, 2, 0, 1) if leaf == "kernel" else array
        tensors[".".join([*parts, LEAVES[leaf]])] = array
    return tensors

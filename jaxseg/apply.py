"""Finished networks put to use: `--mode=evaluate` and `--mode=predict`."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from jaxseg import (
    assemble,
    batches,
    checkpoint,
    ensembles,
    evaluate_results,
    restore,
    train,
    validate,
)
from jaxseg import evaluate as evaluation
from jaxseg import predict as prediction
from jaxseg.errors import UserError
from jaxseg.evaluate_results import percent
from jaxseg.restore import Loaded


def evaluate(
    config: ConfigDict,
    workdir: str,
    step: str = "best",
    *,
    weights: str = "",
    ensemble: str = "",
    ensemble_weights: str = "",
    save: str = "",
    given: Iterable[str] = (),
) -> dict[str, Any]:
    """Evaluates on the target's validation split, by the protocol of `config.eval`.

    For a checkpoint of the run it is the number that the training loop logged, exactly. Prints a
    table and writes `<workdir>/results.json` and `results.txt`; for several snapshots see
    `evaluate_snapshots`.

    Args:
      config: of the experiment.
      workdir: of a run; results are written there.
      step: one of `restore.CHOICES`, a number, or 'all' checkpoints of the run.
      weights: a weights file instead, or a folder of them.
      ensemble, ensemble_weights: several networks instead; see `ensembles.load`.
      save: a new folder for the network of `weights` as a run's checkpoint of step 0.
      given: settings that were given by hand, as 'net.summed'; see `restore.from_workdir`.

    Returns:
      The result; of the best snapshot, if there are several.
    """
    _prepare(config)
    if step == "all" or (weights and os.path.isdir(weights)):
        if save:
            raise UserError(f"--save={save} wants one weights file, {weights or 'step=all'} is not")
        several = _several(config, workdir, weights, given)
        return evaluate_snapshots(config, several, workdir)
    loaded = _load(config, workdir, step, weights, ensemble, ensemble_weights, given)
    if save:
        write_checkpoint(loaded, save, config)
    result = _described(loaded, _evaluator(loaded)(loaded))
    if jax.process_index() == 0:
        path = evaluate_results.write(workdir, result)
        classes = assemble.label_set(loaded.config).classes
        evaluate_results.print_table(result, classes, name=loaded.name)
        miou = percent(result["miou"]) + _told(config)
        print(f"{loaded.name}: target mIoU {miou}, written to {path}")
    return result


def evaluate_snapshots(
    config: ConfigDict, snapshots: Iterable[Loaded], workdir: str
) -> dict[str, Any]:
    """Evaluates one network after the other, prints a table and writes `<workdir>/snapshots.json`.

    The papers report the best of such a table. That choice looks at the target's labels, and the
    table says so.

    Returns:
      The best result.
    """
    results, before, evaluator = [], None, None
    for loaded in snapshots:
        if before is None or loaded.method is not before.method:
            evaluator = _evaluator(loaded)
        before = loaded
        results.append({"name": loaded.name, **_described(loaded, evaluator(loaded))})
        if jax.process_index() == 0:
            print(f"{loaded.name}: target mIoU {percent(results[-1]['miou'])}")
    best = max(results, key=lambda result: -1.0 if result["miou"] is None else result["miou"])
    if jax.process_index() == 0:
        path = os.path.join(workdir, "snapshots.json")
        split = config.data.target.val_split
        chosen = {"split": split, "best": best["name"], "chosen_with": "target labels"}
        listed = [evaluate_results.brief(result) for result in results]
        evaluate_results.write_results(path, {**chosen, "snapshots": listed})
        print_snapshots(results, best, f"{config.data.target.name} {split}{_told(config)}")
        print(
            f"best: {best['name']}, target mIoU {percent(best['miou'])}, chosen with "
            f"target labels; all are in {path}"
        )
    return best


def print_snapshots(
    results: list[dict[str, Any]],
    best: dict[str, Any],
    split: str,
    console: Console | None = None,
) -> None:
    """Prints a row for each snapshot, the best one marked, all in percent."""
    also = [key for key in best if key.startswith("miou_")]
    columns = {"miou": "mIoU", **{key: f"mIoU {key[5:]}" for key in also}}
    columns |= {"pixel_accuracy": "pixel acc.", "entropy": "entropy"}
    table = Table(
        title=f"{split}, {best['images']} images, in %",
        title_justify="left",
        caption="* best, chosen with target labels",
        caption_justify="left",
    )
    table.add_column("snapshot", no_wrap=True)
    for title in columns.values():
        table.add_column(title, justify="right")
    for result in results:
        name = result["name"].removeprefix("step ") + (" *" if result is best else "")
        values = (percent(result[key], 2, "") for key in columns)
        table.add_row(name, *values, style="bold" if result is best else None)
    (console or Console()).print(table)


def predict(
    config: ConfigDict,
    workdir: str,
    step: str,
    source: str,
    output: str,
    *,
    weights: str = "",
    ensemble: str = "",
    ensemble_weights: str = "",
    save: str = "",
    given: Iterable[str] = (),
    submission: bool = False,
) -> int:
    """Segments an image or a folder of images of any size; returns how many.

    The network sees each image at the size of `data.target.size` (at its own with
    `eval.full_resolution`), by the protocol of `config.eval`, and the maps are brought back to the
    image's own size.

    Args:
      source, output: files; see `prediction.predict_folder`.
      submission: also writes <stem>_labelIds.png in the ids of Cityscapes.
      config, workdir, step, weights, ensemble, ensemble_weights, save, given: see `evaluate`.
    """
    _prepare(config)
    label_set = assemble.label_set(config)
    ids = prediction.published_ids(label_set) if submission else None
    loaded = _load(config, workdir, step, weights, ensemble, ensemble_weights, given)
    if save:
        write_checkpoint(loaded, save, config)
    full = config.eval.full_resolution
    count = prediction.predict_folder(
        assemble.predictor(loaded.config, loaded.method), loaded.model, source, output,
        label_set=label_set,
        size=None if full else assemble.size_of("data.target.size", config.data.target.size),
        published=ids,
    )  # fmt: skip
    print(f"{count} images segmented with {loaded.name} into {output}")
    return count


def write_checkpoint(
    loaded: Loaded, folder: str, config: ConfigDict, announce: Callable[[str], None] = print
) -> None:
    """Writes a network as the checkpoint of step 0 of a run, with its config.json.

    Everything that the network does not have (discriminators, optimisers) is as at the start of a
    training.

    Args:
      loaded: from a weights file.
      folder: of the run to be; it must not hold checkpoints.
      config: as given, to tell which settings the network changed.

    Raises:
      UserError: `folder` holds checkpoints already.
    """
    saved = Path(folder, "checkpoints")
    if saved.is_dir() and any(path.name.isdigit() for path in saved.iterdir()):
        raise UserError(f"--save={folder} holds checkpoints already: give a new folder")
    own, method = loaded.config, loaded.method
    state = assemble.first_state(own, method, assemble.optimisers(own))
    net, stats = (loaded.model[key] for key in ("params", "stats"))
    gen = {**state.params["gen"], **jax.tree.map(jnp.asarray, net["gen"])}
    state = state._replace(
        params={**state.params, "gen": gen},
        stats={**state.stats, **jax.tree.map(jnp.asarray, stats)},
    )
    with checkpoint.open_manager(saved, keep=own.train.keep) as manager:
        checkpoint.save(manager, jax.device_get(state), own.to_dict())
    train.write_config(own, folder)
    flags = [
        f"--config.net.{key}={value}".replace(" ", "")
        for key, value in own.net.items()
        if value != config.net[key]
    ]
    announce(
        f"saved as step 0 of {folder}; --workdir={folder} evaluates it, and trains on from it"
        + (f" with {' '.join(flags)}" if flags else "")
    )


def _prepare(config: ConfigDict) -> None:
    validate.check(config)
    assemble.use_compile_cache(config)


def _load(config, workdir, step, weights, ensemble, ensemble_weights, given) -> Loaded:
    if ensemble:
        return ensembles.load(config, ensemble, ensemble_weights, given=given)
    if weights:
        return restore.from_weights(config, weights, given=given)
    return restore.first(restore.from_workdir(config, workdir, step, given=given))


def _several(config, workdir, weights, given) -> Iterator[Loaded]:
    if not weights:
        yield from restore.from_workdir(config, workdir, "all", given=given)
        return
    loaded = None
    for path in restore.weight_files(weights):
        loaded = restore.from_weights(config, path, given=given, before=loaded)
        yield loaded


def _evaluator(loaded: Loaded) -> Callable[[Loaded], dict[str, Any]]:
    """(another network of the same method) -> result; compiles once."""
    config = loaded.config
    classes = assemble.label_set(config).classes
    evaluator = evaluation.make_evaluator(
        assemble.predictor(config, loaded.method),
        len(classes),
        scored=assemble.scored(config),
        also=assemble.also_scored(config),
        boundary=config.eval.boundary in ("evaluate", "always"),
        depth=loaded.method.depth,
        depth_cap=config.eval.depth_cap,
    )
    depth = loaded.method.depth is not None

    def evaluate(loaded: Loaded) -> dict[str, Any]:
        model = (loaded.model[key] for key in ("params", "stats", "memory"))
        return evaluator(*model, batches.eval_batches(config, depth=depth), classes)[0]

    return evaluate


def _described(loaded: Loaded, result: dict[str, Any]) -> dict[str, Any]:
    config = loaded.config
    split = config.data.target.val_split
    return {**loaded.facts, "split": split, **result, "protocol": _protocol(config)}


def _protocol(config: ConfigDict) -> dict[str, Any]:
    return {key: config.eval[key] for key in ("flip", "scales", "window", "stride")} | {
        "image_size": "as stored" if config.eval.full_resolution else config.data.target.size
    }


def _told(config: ConfigDict) -> str:
    """' with ...' for what of the protocol is not the papers'."""
    chosen, parts = config.eval, []
    if chosen.full_resolution:
        parts.append("full resolution")
    if tuple(chosen.scales) != (1.0,):
        parts.append("scales " + " ".join(f"{scale:g}" for scale in chosen.scales))
    if chosen.flip:
        parts.append("flip")
    if chosen.window:
        parts.append("windows of {}x{}".format(*chosen.window))
    return f" with {', '.join(parts)}" if parts else ""

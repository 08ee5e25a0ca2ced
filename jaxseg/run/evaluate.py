"""Evaluation of finished networks: `--mode=evaluate`."""

import os
from collections.abc import Callable, Iterable
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from jaxseg.engine.method import DEPTH, TARGET, view_of
from jaxseg.errors import UserError, one_line_on_files
from jaxseg.evaluation import results as evaluation_results
from jaxseg.evaluation.evaluator import make_evaluator
from jaxseg.evaluation.results import percent
from jaxseg.experiment import batches, finished, memory, settings
from jaxseg.experiment.finished import Wanted
from jaxseg.experiment.method import make_predictor
from jaxseg.experiment.restore import Loaded
from jaxseg.storage import results as storage_results

DEFAULT = Wanted()


def evaluate(config: ConfigDict, workdir: str, wanted: Wanted = DEFAULT) -> dict[str, Any]:
    """Evaluates on the target's validation split, with the protocol of `config.eval`.

    A checkpoint of the run gets exactly the score that the training loop logged. Prints a table and
    writes `<workdir>/results.json` and `results.txt`; for several snapshots see
    `evaluate_snapshots`.

    Args:
      config: of the experiment.
      workdir: of a run; results are written there.
      wanted: one or several networks; the best checkpoint of the run by default.

    Returns:
      The result; if there are several snapshots, that of the best.
    """
    with one_line_on_files(workdir):
        return _evaluate(config, workdir, wanted)


def _evaluate(config: ConfigDict, workdir: str, wanted: Wanted) -> dict[str, Any]:
    finished.prepare(config)
    if wanted.several:
        if wanted.save:
            raise UserError(
                f"--save={wanted.save} wants one weights file, {wanted.weights or 'step=all'} is "
                "not"
            )
        return evaluate_snapshots(config, finished.load_several(config, workdir, wanted), workdir)
    loaded = finished.load(config, workdir, wanted)
    if wanted.save:
        finished.write_checkpoint(loaded, wanted.save, config)
    result = _described(loaded, _evaluator(loaded)(loaded))
    if jax.process_index() == 0:
        classes = settings.label_set(loaded.config).classes
        if result["miou"] is None:
            entropy = f"mean entropy of {result['images']} images {percent(result['entropy'])}"
            print(f"{loaded.name}: {entropy}; {_unlabelled(config)}", flush=True)
        else:
            evaluation_results.print_table(result, classes, name=loaded.name)
            miou = percent(result["miou"]) + _departures(config)
            print(f"{loaded.name}: target mIoU {miou}", flush=True)
        print(f"written to {storage_results.write(workdir, result)}")
    return result


def _unlabelled(config: ConfigDict) -> str:
    """What is said instead of scores."""
    target = config.data.target
    return f"{target.name} {target.val_split} has no labels, so nothing is scored"


def evaluate_snapshots(
    config: ConfigDict, snapshots: Iterable[Loaded], workdir: str
) -> dict[str, Any]:
    """Evaluates one network after the other, prints a table and writes `<workdir>/snapshots.json`.

    The papers report the best score of such a table. That choice uses the target's labels, and the
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
            score, entropy = (results[-1][key] for key in ("miou", "entropy"))
            told = "entropy" if score is None else "target mIoU"
            print(f"{loaded.name}: {told} {percent(entropy if score is None else score)}")
    best = max(results, key=lambda result: -1.0 if result["miou"] is None else result["miou"])
    if jax.process_index() == 0:
        path = os.path.join(workdir, "snapshots.json")
        split = config.data.target.val_split
        chosen = {"split": split}
        if best["miou"] is not None:
            chosen |= {"best": best["name"], "chosen_with": "target labels"}
        listed = [evaluation_results.brief(result) for result in results]
        print_snapshots(results, best, f"{config.data.target.name} {split}{_departures(config)}")
        told = f"target mIoU {percent(best['miou'])}, chosen with target labels"
        unlabelled = best["miou"] is None
        print(_unlabelled(config) if unlabelled else f"best: {best['name']}, {told}")
        storage_results.write_json(path, {**chosen, "snapshots": listed})
        print(f"all are in {path}")
    return best


def print_snapshots(
    results: list[dict[str, Any]],
    best: dict[str, Any],
    split: str,
    console: Console | None = None,
) -> None:
    """Prints a row for each snapshot, the best one marked, all in percent."""
    columns = {"entropy": "entropy"}
    if best["miou"] is not None:
        also = [key for key in best if key.startswith("miou_")]
        columns = {"miou": "mIoU", **{key: f"mIoU {key[5:]}" for key in also}}
        columns |= {"pixel_accuracy": "pixel acc.", "entropy": "entropy"}
    table = Table(
        title=f"{split}, {best['images']} images, in %",
        title_justify="left",
        caption="" if best["miou"] is None else "* best, chosen with target labels",
        caption_justify="left",
    )
    table.add_column("snapshot", no_wrap=True)
    for title in columns.values():
        table.add_column(title, justify="right")
    for result in results:
        first = result is best and best["miou"] is not None
        name = result["name"].removeprefix("step ") + (" *" if first else "")
        values = (percent(result[key], 2, "") for key in columns)
        table.add_row(name, *values, style="bold" if first else None)
    (console or Console()).print(table)


def _evaluator(loaded: Loaded) -> Callable[[Loaded], dict[str, Any]]:
    """(another network of the same method) -> result; compiles once."""
    config = loaded.config
    classes = settings.label_set(config).classes
    depth = view_of(loaded.method, DEPTH, TARGET)
    evaluator = make_evaluator(
        make_predictor(config, loaded.method),
        len(classes),
        scored=settings.scored(config),
        also=settings.also_scored(config),
        boundary=config.eval.boundary in ("evaluate", "always"),
        depth=depth and depth.function,
        depth_cap=config.eval.depth_cap,
        check=memory.evaluation_check(config, jax.local_devices()),
    )

    def evaluate(loaded: Loaded) -> dict[str, Any]:
        model = (loaded.model[key] for key in ("params", "stats", "memory"))
        data = batches.eval_batches(config, depth=depth is not None)
        with memory.told(config, evaluating=True):
            return evaluator(*model, data, classes)[0]

    return evaluate


def _described(loaded: Loaded, result: dict[str, Any]) -> dict[str, Any]:
    config = loaded.config
    split = config.data.target.val_split
    return {**loaded.facts, "split": split, **result, "protocol": _protocol(config)}


def _protocol(config: ConfigDict) -> dict[str, Any]:
    return {key: config.eval[key] for key in ("flip", "scales", "window", "stride")} | {
        "image_size": "as stored" if config.eval.full_resolution else config.data.target.size
    }


def _departures(config: ConfigDict) -> str:
    """Lists the settings of evaluation that differ from the papers', as ' with flip'."""
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

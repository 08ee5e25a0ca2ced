"""The snapshots of a run: how each is evaluated, and their summary at the end.

A snapshot is scored on the target's validation split and on held-out source images, and its
predictions are compared with those of the snapshot before; `selection` explains why.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from jaxseg.engine.method import DEPTH, IMAGE, SOURCE, TARGET, Method, State, view_of
from jaxseg.errors import UserError
from jaxseg.evaluation import results, selection
from jaxseg.evaluation.evaluator import make_evaluator
from jaxseg.evaluation.results import percent, plain
from jaxseg.experiment import batches, memory, settings
from jaxseg.experiment.method import make_predictor
from jaxseg.report import brought, page, paint, paint_examples, paint_source, paint_views
from jaxseg.run import yardsticks
from jaxseg.storage import logs
from jaxseg.storage import results as storage_results

EXTREMES = 3  # of the worst and of the best images are shown
MAPS = "agreement"  # subfolder of the work folder with the last snapshots' predictions


def make_scorers(
    config: ConfigDict, method: Method, devices: Sequence[jax.Device]
) -> Callable[[str, int], Callable[..., dict[str, Any]]]:
    """Makes the functions that evaluate snapshots; all runs share the compiled programs.

    Args:
      config: of one of the runs; evaluation settings have to be the same in all.
      method: its `predict` is evaluated, with the protocol of `config.eval`.
      devices: local devices to use.

    Returns:
      (workdir, start) -> score, the function for one run. The work folder holds the log, and gets
      pictures and predictions. `start` is the step that the run resumes from; the previous snapshot
      is that of the last evaluation up to this step. If its predictions are lost, the next
      evaluation has no agreement.

      score(state, step, log, bar) -> result: evaluates, writes a line to `log` (logs.Log) and `bar`
      (progress.Progress), saves pictures. `result` is described in `evaluation.results.result`, and
      has step and split. Where they can be computed, it also has source_miou, agreement and
      pixel_agreement (fractions; None without a previous snapshot).
    """
    classes, scored = settings.label_set(config), settings.scored(config)
    depth = view_of(method, DEPTH, TARGET)
    evaluator = make_evaluator(
        make_predictor(config, method), len(classes.classes), devices,
        pictures=batches.picture_ids(config),
        scored=scored, also=settings.also_scored(config),
        boundary=config.eval.boundary == "always",
        depth=depth and depth.function, depth_cap=config.eval.depth_cap,
        extremes=EXTREMES if config.train.pictures else 0,
        check=memory.evaluation_check(config, devices),
    )  # fmt: skip
    look = _looks(config, method, classes, devices[0])
    return lambda workdir, start: _scorer(
        config, method, classes, evaluator, look, workdir, start, depth=depth is not None
    )


def _looks(config, method, classes, device) -> Callable[..., dict[str, Any]]:
    """Makes (model, examples, folder, step) -> {name: panel}, which also saves the pictures."""
    changed = view_of(method, IMAGE, SOURCE)
    changes = paint_source.make_viewer(method, device) if changed else None
    views = paint_views.make_viewer(method, device)

    def look(model, examples, folder, step):
        panels = {}
        if not changes and not (Path(folder) / paint_examples.SOURCE / paint.INDEX).exists():
            paint_examples.save_source(folder, batches.source_pictures(config), classes)
        if changes:
            seen = changes(*model, batches.source_pictures(config))
            panels["source"] = paint_source.save_source_pictures(
                folder, step, seen, classes, title=changed.title
            )
        if views:
            seen = views(*model, examples, batches.source_pictures(config))
            panels["views"] = paint_views.save_views(folder, step, seen, classes)
        return panels

    return look


def _scorer(config, method, classes, evaluator, look, workdir, start, *, depth):
    if jax.process_index() == 0:
        brought.write(workdir, method)
    names, scored = classes.classes, settings.scored(config)
    # Predictions are kept for every checkpoint that a run may resume from: `train.keep` of them,
    # one being written, and one about to be written.
    folder, keep = os.path.join(workdir, MAPS), config.train.keep + 2
    evaluated = [e["step"] for e in logs.evaluations(workdir) if e["step"] <= start]
    before = storage_results.load_maps(folder, evaluated[-1]) if evaluated else {}

    def score(state: State, step: int, log: logs.Log, bar) -> dict[str, Any]:
        nonlocal before
        model, maps, ranked = (state.params, state.stats, state.memory), {}, []
        data = batches.eval_batches(config, depth=depth)
        result, examples = evaluator(*model, data, names, maps, ranked)
        source = batches.source_eval_batches(config)
        if source is not None:
            result["source_miou"] = evaluator(*model, source, names)[0]["miou"]
        both = selection.agreement(before, maps, len(names), scored)
        result["agreement"], result["pixel_agreement"] = both
        before = maps
        result = {"step": step, "split": config.data.target.val_split, **result}
        if result["miou"] is None:  # no labels: nothing is scored
            result["predicted"] = selection.shares(maps, names)
            told = [f"{result['split']} entropy {percent(result['entropy'])}"]
        else:
            told = [f"{result['split']} mIoU {percent(result['miou'])}"]
            told.append(f"pixel accuracy {percent(result['pixel_accuracy'])}")
        if "depth" in result:
            told.append(f"abs rel {plain(result['depth']['abs_rel'])}")
        if source is not None:
            told.append(f"source mIoU {percent(result['source_miou'])}")
        bar.log(f"step {step}: {', '.join(told)}")  # first: the disk may be full
        if jax.process_index() == 0:
            # Saved before the log line, so that every logged step has its predictions.
            storage_results.save_maps(folder, step, maps, keep)
        log.evaluation(step, result)
        if jax.process_index() == 0 and examples:
            pictures = os.path.join(workdir, "pictures")
            log.picture(step, "predictions", paint.save_pictures(pictures, step, examples, classes))
            paint_examples.save_extremes(pictures, step, ranked, classes)
            for name, panel in look(model, examples, pictures, step).items():
                log.picture(step, name, panel)
        return result

    return score


def write_up(workdir: str, warmup: int) -> None:
    """Writes results.json and results.txt for the last evaluation, selection.json and report.html
    for the whole run.

    Args:
      workdir: of the run.
      warmup: the last step of the warm-up.
    """
    evaluations = _evaluations(workdir)
    comparison = selection.compare(evaluations, warmup)
    storage_results.write(workdir, evaluations[-1])
    storage_results.write_json(os.path.join(workdir, "selection.json"), comparison)
    page.write_report(workdir)


def _evaluations(workdir: str) -> list[dict[str, Any]]:
    evaluations = logs.evaluations(workdir)
    if not evaluations:
        raise UserError(f"{workdir} holds no evaluation; delete it and train again")
    return evaluations


def conclude(workdir: str, warmup: int, console: Console | None = None) -> None:
    """Prints a summary on standard output or the console, and calls `write_up`."""
    console = console or Console()
    evaluations = _evaluations(workdir)
    comparison = selection.compare(evaluations, warmup)
    best, last = logs.best_and_last(workdir)
    if last["miou"] is not None:
        results.print_table(last, list(last["iou"]), console)
    print_choices(comparison, console)
    first = page.before_adaptation(evaluations, warmup)
    named = "end of the warm-up" if first["step"] == warmup else "first"
    told = {named: first, "last": last, "best, chosen with target labels": best}
    scores = (f"{percent(r['miou'])} at step {r['step']} ({n})" for n, r in told.items())
    if last["miou"] is None:
        print("the target has no labels: nothing is scored; --mode=predict shows what was learnt")
    else:
        print(f"target mIoU {', '.join(scores)}")
        _print_yardsticks(workdir)
    write_up(workdir, warmup)
    print(f"report: {os.path.join(workdir, 'report.html')}")


def _print_yardsticks(workdir: str) -> None:
    """What predictors reach that see no image, or a pixel's colour only."""
    path = Path(workdir, yardsticks.FILE)
    if path.exists():
        found = json.loads(path.read_text())
        print(
            f"to compare: the commonest class of each position {percent(found['position'])}, of "
            f"each colour and position {percent(found['colour_and_position'])}"
        )


def print_choices(comparison: dict[str, Any], console: Console | None = None) -> None:
    """Prints the choice of each criterion; `comparison` is from `selection.compare`."""
    since, count = comparison["since"], comparison["evaluations"]
    names = [c.key for c in selection.CRITERIA if c.key in comparison["criteria"]]
    chosen = selection.choices(comparison)
    labelled = any(choice["miou"] is not None for _, choice in chosen)
    table = Table(
        title="choosing a snapshot without target labels",
        title_justify="left",
        caption=f"{count} evaluations"
        + (f" from the end of the warm-up, step {since}, on" if since else "")
        + ("; rank correlation with target mIoU: 1 orders them as labels would" * labelled)
        + (f"\n--step={'|'.join(names)} evaluates or predicts with its choice" if names else ""),
        caption_justify="left",
    )
    table.add_column("criterion", no_wrap=True)
    for heading in ("step", "target mIoU %", "below best", "rank corr.")[: None if labelled else 1]:
        table.add_column(heading, justify="right")
    for criterion, choice in chosen:
        labels = criterion is selection.LABELS
        if labels:
            table.add_section()
        table.add_row(
            selection.title(criterion),
            str(choice["step"]),
            *(_by_labels(choice, labels) if labelled else ()),
            style="bold" if labels else None,
        )
    (console or Console()).print(table)


def _by_labels(choice: dict[str, Any], labels: bool) -> tuple[str, str, str]:
    """What target labels say of a choice, or of their own."""
    return (
        percent(choice["miou"], 1, ""),
        "" if labels else percent(choice["below_best"], 1, ""),
        "" if labels else selection.correlation_text(choice["rank_correlation"]),
    )

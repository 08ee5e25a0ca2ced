"""A trained checkpoint put to use: `--mode=evaluate` and `--mode=predict`."""

import os

import jax
from ml_collections import ConfigDict

from jaxseg import assemble, batches, checkpoint, validate
from jaxseg import evaluate as evaluation
from jaxseg import predict as prediction
from jaxseg.errors import UserError


def restored(config: ConfigDict, workdir: str, step: str):
    """(method, step, {'params', 'stats', 'memory'}) from `workdir`.

    Args:
      step: 'best' (on target-validation mIoU), 'last' or a number.
    """
    validate.check(config)
    assemble.use_compile_cache(config)
    if step not in ("best", "last") and not step.isdigit():
        raise UserError(f"--step={step}: give best, last or a step number")
    method, players = assemble.method(config), assemble.optimisers(config)
    template = assemble.abstract_state(config, method, players)
    wanted = {name: getattr(template, name) for name in ("params", "stats", "memory")}
    folder = os.path.join(workdir, "checkpoints")
    with checkpoint.open_manager(folder, read_only=True) as manager:
        found, model, _ = checkpoint.restore_model(
            manager, int(step) if step.isdigit() else step, wanted
        )
    return method, found, model


def evaluate(config: ConfigDict, workdir: str, step: str) -> dict:
    """Evaluates on the target's validation split: the number the training loop logged, exactly.

    Prints a table and writes `<workdir>/results.json`.
    """
    method, found, model = restored(config, workdir, step)
    classes = assemble.label_set(config).classes
    evaluator = evaluation.make_evaluator(
        method.predict, len(classes), scored=assemble.scored(config)
    )
    result, _ = evaluator(
        model["params"], model["stats"], model["memory"], batches.eval_batches(config), classes
    )
    result = {"step": found, "split": config.data.target.val_split, **result}
    if jax.process_index() == 0:
        path = os.path.join(workdir, "results.json")
        evaluation.write_results(path, result)
        evaluation.print_table(result, classes)
        print(f"step {found}: target mIoU {evaluation.percent(result['miou'])}, written to {path}")
    return result


def predict(config: ConfigDict, workdir: str, step: str, source: str, output: str) -> int:
    """Segments an image or a folder of images of any size; returns how many.

    The network sees each image at the size of `data.target.size` and the maps are brought back to
    the image's own.
    """
    method, found, model = restored(config, workdir, step)
    count = prediction.predict_folder(
        method.predict, model, source, output,
        label_set=assemble.label_set(config),
        size=assemble.size_of("data.target.size", config.data.target.size),
    )  # fmt: skip
    print(f"{count} images segmented with step {found} into {output}")
    return count

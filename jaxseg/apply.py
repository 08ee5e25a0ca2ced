"""A trained checkpoint put to use: `--mode=evaluate` and `--mode=predict`."""

import os

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxseg import assemble, checkpoint, evaluate, logs
from jaxseg import predict as prediction
from jaxseg.errors import UserError


def restored(config: ConfigDict, workdir: str, step: str):
    """(method, step, {'params', 'stats', 'memory'}) from `workdir`.

    Args:
      step: 'best' (on target-validation mIoU), 'last' or a number.
    """
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


def evaluate_checkpoint(config: ConfigDict, workdir: str, step: str) -> dict:
    """Evaluates on the target's validation split; the number the training loop logged, exactly."""
    method, found, model = restored(config, workdir, step)
    classes = assemble.label_set(config)
    evaluator = evaluate.make_evaluator(method.predict, len(classes.classes), jax.local_devices())
    result, _ = evaluator(
        model["params"], model["stats"], model["memory"], assemble.eval_batches(config),
        classes.classes,
    )  # fmt: skip
    result = {"step": found, "split": config.data.target.val_split, **result}
    if jax.process_index() == 0:
        path = os.path.join(workdir, "results.json")
        evaluate.write_results(path, result)
        evaluate.print_table(result, classes.classes)
        print(f"step {found}: mIoU {100 * result['miou']:.2f} %, written to {path}")
    return result

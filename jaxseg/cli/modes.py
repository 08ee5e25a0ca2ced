"""Runs the modes of a config: train, evaluate, predict and the others."""

import functools
import importlib
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from jaxseg.cli import flags as own
from jaxseg.cli import parsing
from jaxseg.engine import signals


def main(argv: Sequence[str], usage: str = "", mode: str = "") -> None:
    """Parses the command line, runs a mode, and ends the process with its exit code.

    Args:
      argv: the program's name, as in messages, and its arguments.
      usage: what --help says before the flags.
      mode: the mode, of a command that is one; otherwise --mode gives it.
    """
    signals.guard()
    argv, command = list(argv), _as_typed(argv)
    if parsing.asks_help(argv):
        print(f"{usage.strip()}\n\nFlags:\n{own.help_text(mode)}")
        sys.exit(0)
    parsing.show_all_help(argv)
    if mode:
        for argument in argv[1:]:
            if argument.partition("=")[0] in ("--mode", "-mode"):
                parsing.fail(f"{argument}: the command itself says what to do", argv[0])
        argv.insert(1, f"--mode={mode}")
    app.run(functools.partial(_guarded, command), argv, flags_parser=parsing.parse)


def _as_typed(argv: Sequence[str]) -> str:
    program, *arguments = argv
    start = ["python", program] if program.endswith(".py") else program.split(" ")
    return shlex.join([*start, *arguments])


def _guarded(command: str, argv: Sequence[str]) -> None:
    try:
        exit_code = _checked(argv, command)
    except (KeyboardInterrupt, Exception):
        if not signals.raised():
            raise
        print(f"{argv[0]}: interrupted", file=sys.stderr)
        signals.leave()
    if exit_code == 130:  # interrupted; the training loop has printed at which step
        signals.leave()
    sys.exit(exit_code)


def _checked(argv: Sequence[str], command: str) -> int:
    """Checks the flags and runs the mode they ask for; returns the exit code."""
    program = argv[0]
    if len(argv) > 1:
        parsing.fail(
            f"unexpected argument {argv[1]!r}; settings are given as --config.KEY=VALUE", program
        )
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # hides JAX's notes on missing backends
    config = own.CONFIG.value
    if mistake := own.misuse():
        parsing.fail(mistake, program)
    from jaxseg.errors import UserError, one_line_on_files

    workdir = own.path(own.WORKDIR) or _default_workdir(config)
    address = (own.COORDINATOR.value, own.PROCESSES.value, own.PROCESS.value)
    try:
        if own.MODE.value == "predict":  # a misspelt path is told before anything slow
            from jaxseg.run import images

            images.check(own.path(own.INPUT))
        from jaxseg.engine import processes  # slow imports only once the flags are valid

        processes.start(*address, automatic=own.DISTRIBUTED.value)
        importlib.import_module(f"jaxseg.run.{own.MODE.value}")
        signals.unwind()  # after the imports
        predicts = own.MODE.value == "predict"
        writes = own.path(own.OUTPUT) if predicts else workdir
        with processes.end_together(), one_line_on_files(writes):
            return _run(config, workdir, command)
    except UserError as error:
        parsing.fail(str(error), program)


def _run(config: ConfigDict, workdir: str, command: str) -> int:
    """Runs the chosen mode; returns the exit code."""
    from jaxseg.experiment import fine_tune, networks, run_classes, sizes

    given = config_flags.get_override_values(flags.FLAGS["config"])
    if own.INIT_FROM.value:
        config.init.weights = own.path(own.INIT_FROM)
    networks.settle(config, given)
    run_classes.settle(config)
    sizes.settle(config, workdir)
    if own.SPLIT.value:
        config.data.target.val_split = own.SPLIT.value
    if own.MODE.value == "train":
        from jaxseg.run import train

        profile = own.PROFILE.value or 0
        config = fine_tune.adopt(config, given)
        return train.run(config, workdir, command, profile=profile)
    if own.MODE.value == "inspect":
        from jaxseg.run import inspect

        inspect.run(config, os.path.join(workdir, "survey"))
        return 0
    if own.MODE.value == "describe":
        from jaxseg.run import describe

        describe.describe(config)
        return 0
    if own.MODE.value == "search":
        from jaxseg.run import search

        return search.run(
            fine_tune.adopt(config, given), workdir, own.path(own.SPACE), own.TRIALS.value,
            own.CRITERION.value, own.PATIENCE.value,
        )  # fmt: skip
    return _use_finished(config, workdir, given)


def _use_finished(config: ConfigDict, workdir: str, given: dict[str, Any]) -> int:
    from jaxseg.experiment.finished import Wanted
    from jaxseg.run import evaluate, predict

    wanted = Wanted(
        step=own.STEP.value or default_step(own.MODE.value),
        weights=own.path(own.WEIGHTS),
        ensemble=own.ENSEMBLE.value or "",
        ensemble_weights=own.ENSEMBLE_WEIGHTS.value or "",
        ensemble_of=own.ENSEMBLE_OF.value,
        save=own.path(own.SAVE),
        given=given,
    )
    if own.MODE.value == "evaluate":
        evaluate.evaluate(config, workdir, wanted)
        return 0
    if own.MODE.value == "translate":
        from jaxseg.run import translate

        translate.translate(config, workdir, own.path(own.OUTPUT), wanted, own.path(own.JUDGE))
        return 0
    if own.MODE.value == "export":
        from jaxseg.run import export

        output = own.path(own.OUTPUT) if flags.FLAGS["output"].present else None
        export.export(config, workdir, own.FORMAT.value, output, own.size(), wanted)
        return 0
    places = own.path(own.INPUT), own.path(own.OUTPUT)
    done = predict.predict(config, workdir, *places, wanted, submission=own.SUBMISSION.value)
    return 1 if done.broken else 0


def default_step(mode: str) -> str:
    """Which checkpoint a mode takes: no translation is made by what labels of the target chose."""
    return "last" if mode == "translate" else "best"


def _default_workdir(config: ConfigDict) -> str:
    """runs/<config name>, with a suffix for sweeps and ensembles; the file's name for weights."""
    name = config.name
    if own.WEIGHTS.value:
        name = os.path.splitext(os.path.basename(os.path.normpath(own.WEIGHTS.value)))[0]
    elif own.ENSEMBLE.value:
        name += "_ensemble"
    elif config.sweep.over and own.MODE.value == "train":
        name += "_sweep"
    elif own.MODE.value == "search":
        name += "_search"
    return os.path.join("runs", name)

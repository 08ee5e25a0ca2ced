"""Trains, evaluates or predicts with one config, or inspects its data; flags only.

python launch.py --config=configs/advent.py
python launch.py --config=configs/advent.py --mode=inspect
python launch.py --config=configs/advent.py:gta5_cityscapes --config.data.root=DIR --workdir=DIR
python launch.py --config=configs/advent.py --mode=evaluate --step=entropy
python launch.py --config=configs/advent.py --mode=predict --input=photos --output=predictions
python launch.py --config=configs/advent.py:gta5_cityscapes --mode=evaluate --weights=advent.pth
python launch.py --config=configs/advent.py --mode=evaluate --ensemble=runs/a,runs/b@700
srun python launch.py --config=configs/advent.py:gta5_cityscapes --distributed
"""

import contextlib
import importlib.util
import inspect
import os
import re
import sys
import traceback

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

_ROOT = os.path.dirname(os.path.abspath(__file__))
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Experiment: configs/NAME.py or configs/NAME.py:PRESET.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Checkpoints, metrics and report; default runs/<config name>."
)
_MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "evaluate", "predict", "inspect"], "What to do."
)
_STEP = flags.DEFINE_string(
    "step",
    "best",
    "Checkpoint for evaluate and predict: best (with target labels), source_miou, entropy, "
    "agreement or neighbourhood_density (without), last, a step; evaluate also: all.",
)
_WEIGHTS = flags.DEFINE_string(
    "weights",
    None,
    "For evaluate and predict instead of a checkpoint: a .pth, .npz or .safetensors file "
    "(published ones are recognised), for evaluate also a folder.",
)
_SAVE = flags.DEFINE_string(
    "save", None, "New folder for --weights=FILE as a run's checkpoint: a --workdir to go on with."
)
_ENSEMBLE = flags.DEFINE_string(
    "ensemble",
    None,
    "For evaluate and predict: DIR[@STEP],DIR2,... of runs (or weight files), logits averaged.",
)
_ENSEMBLE_WEIGHTS = flags.DEFINE_string(
    "ensemble_weights", None, "Of the members, as 0.7,0.3; equal by default."
)
_INPUT = flags.DEFINE_string("input", None, "An image or a folder of images, for predict.")
_OUTPUT = flags.DEFINE_string("output", "predictions", "Folder for the pictures of predict.")
_SUBMISSION = flags.DEFINE_bool(
    "submission",
    False,
    "For predict: also <stem>_labelIds.png in Cityscapes' published ids, at the image's own size.",
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One of several processes, which SLURM, Open MPI or a TPU pod tell of."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0, if several processes are started by hand."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "How many they are.")
_PROCESS = flags.DEFINE_integer("process", None, "Which one this is, from 0.")
# Flags that only some modes know.
_MODES = {
    "step": ("evaluate", "predict"),
    "weights": ("evaluate", "predict"),
    "save": ("evaluate", "predict"),
    "ensemble": ("evaluate", "predict"),
    "ensemble_weights": ("evaluate", "predict"),
    "input": ("predict",),
    "submission": ("predict",),
} | dict.fromkeys(
    ("distributed", "coordinator", "processes", "process"), ("train", "evaluate", "predict")
)


def main(argv):
    from jaxseg.engine import signals  # light, as all is up to the first message

    signals.guard()
    try:
        exit_code = _main(argv)
    except (KeyboardInterrupt, Exception):
        if not signals.raised():
            raise
        print("launch.py: interrupted", file=sys.stderr)
        signals.leave()
    if exit_code == 130:  # it has said at which step
        signals.leave()
    sys.exit(exit_code)


def _main(argv):
    """Checks the flags and does what they say; returns the exit code."""
    if len(argv) > 1:
        _fail(f"unexpected argument {argv[1]!r}; settings are given as --config.KEY=VALUE")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # libraries tell of backends they did not find
    config = _CONFIG.value
    if mistake := _misuse():
        _fail(mistake)
    from jaxseg.engine import processes
    from jaxseg.errors import UserError  # the heavy imports come after the flags are known good

    workdir = _WORKDIR.value or _default_workdir(config)
    address = (_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    try:
        processes.start(*address, automatic=_DISTRIBUTED.value)
        with processes.end_together():
            return _run(config, workdir)
    except UserError as error:
        _fail(str(error))


def _run(config, workdir):
    """Does what --mode says; returns the exit code."""
    from jaxseg.experiment import networks

    given = config_flags.get_override_values(flags.FLAGS["config"])
    networks.settle(config, given)
    if _MODE.value == "train":
        from jaxseg.run import train

        return train.run(config, workdir)
    if _MODE.value == "inspect":
        from jaxseg.run import inspect

        inspect.run(config, os.path.join(workdir, "survey"))
        return 0
    from jaxseg.experiment.finished import Wanted
    from jaxseg.run import evaluate, predict

    wanted = Wanted(
        step=_STEP.value,
        weights=_WEIGHTS.value or "",
        ensemble=_ENSEMBLE.value or "",
        ensemble_weights=_ENSEMBLE_WEIGHTS.value or "",
        save=_SAVE.value or "",
        given=given,
    )
    if _MODE.value == "evaluate":
        evaluate.evaluate(config, workdir, wanted)
    else:
        submission = _SUBMISSION.value
        predict.predict(config, workdir, _INPUT.value, _OUTPUT.value, wanted, submission=submission)
    return 0


def _misuse():
    """What is wrong with flags that do not go together, or None."""
    mode, given = _MODE.value, {name for name in _MODES if flags.FLAGS[name].present}
    for name in sorted(given):
        if mode not in _MODES[name]:
            remedy = ": --config.init.backbone=FILE starts a training" if name == "weights" else ""
            return f"--{name} is for --mode={' and '.join(_MODES[name])}, not {mode}{remedy}"
        if flags.FLAGS[name].value == "":
            return f"--{name} is empty"
    sources = sorted(given & {"step", "weights", "ensemble"})
    if len(sources) > 1:
        remedy = ": a member's step is given as DIR@STEP" if "ensemble" in sources else ""
        return f"--{sources[0]} and --{sources[1]} cannot be used together{remedy}"
    for name, needed in (("save", "weights"), ("ensemble_weights", "ensemble")):
        if name in given and needed not in given:
            return f"--{name} needs --{needed}"
    if mode == "predict" and "input" not in given:
        return "--mode=predict needs --input=FILE_OR_FOLDER"
    if mode == "predict" and _STEP.value == "all":
        return "--step=all is for --mode=evaluate; choose one step for predict"
    return None


def _default_workdir(config):
    """runs/<config name>; sweeps and results of weights and ensembles do not replace a run's."""
    name = config.name
    if _WEIGHTS.value:
        name = os.path.splitext(os.path.basename(os.path.normpath(_WEIGHTS.value)))[0]
    elif _ENSEMBLE.value:
        name += "_ensemble"
    elif config.sweep.over and _MODE.value == "train":
        name += "_sweep"
    return os.path.join("runs", name)


def _parse(argv):
    """Flags with every mistake told in one line; one in the config's own code as a traceback."""
    for argument, following in zip(argv[1:], argv[2:] + [""], strict=False):
        flag, equals, value = argument.partition("=")
        if flag in ("--config", "-config"):
            _check_config(value if equals else following)
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            rest = flags.FLAGS(argv)
            if flags.FLAGS["config"].value is None and not _asks_help(argv):
                _fail("--config is missing: try --config=configs/advent.py")
            _ = flags.FLAGS["config"].value and _CONFIG.value
    except Exception as error:  # ml_collections raises many kinds for overrides
        _fail(_one_line(error, argv))
    if _asks_help(argv):
        app.parse_flags_with_usage(argv)
    return rest


def _check_config(argument):
    """Runs a config by itself, so that its own mistakes are not taken for those of flags."""
    path, colon, preset = argument.partition(":")
    if not os.path.isfile(path):
        _fail(f"no config file {path!r}; the experiments are in configs/")
    spec = importlib.util.spec_from_file_location("config_file", path)
    if spec is None:
        _fail(f"the config {path} is no .py file")
    module = sys.modules["config_file"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        _fail(f"the config {path} has no function get_config")
    given = (preset,) if colon else ()
    try:
        inspect.signature(module.get_config).bind(*given)
    except TypeError as error:
        _fail(f"the config {path} given as {argument!r}: get_config has {error}")
    try:
        config = module.get_config(*given)
    except ValueError as error:
        if not _meant(error, path):
            raise
        _fail(str(error))
    if not isinstance(config, ConfigDict):
        _fail(f"get_config of {path} returns {config!r}, which is no ConfigDict")


def _meant(error, path):
    """Whether a config's own `raise` made the error: a preset that it does not know."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    here, shared = os.path.dirname(os.path.abspath(path)), os.path.join(_ROOT, "configs")
    own = os.path.dirname(os.path.abspath(last.filename)) in (here, shared)
    return own and (last.line or "").startswith("raise ")


def _asks_help(argv):
    return any(a.lstrip("-") in ("help", "helpfull", "helpshort", "h") for a in argv[1:])


def _one_line(error, argv):
    """ml_collections' own messages as one line with the flag."""
    text = " ".join(str(error).replace("\\n", " ").replace("\\'", "'").split())
    text = re.sub(r"(\d{20})\d{20,}", r"\1...", text)  # a number of thousands of digits
    for argument in argv[1:]:
        flag = argument.split("=")[0].lstrip("-").removeprefix("no")
        named = any(part in re.findall(r"\w+", text) for part in flag.split(".")[1:])
        if isinstance(error, (AttributeError, KeyError)) and named:
            hint = re.search(r'Did you mean "(\w+)"', text)
            return f"no setting {flag}" + (f"; did you mean {hint[1]}?" if hint else "")
    return text


def _fail(message):
    print(f"launch.py: {message}", file=sys.__stderr__)
    sys.exit(2)


if __name__ == "__main__":
    app.run(main, flags_parser=_parse)

"""The flags of the modes of a config, and which of them go together."""

import os

from absl import flags
from ml_collections import config_flags

MODES = ("train", "evaluate", "predict", "inspect", "translate", "export", "search", "describe")
_EVERY = MODES
_FINISHED = ("evaluate", "predict")
_LOADED = (*_FINISHED, "export")

CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Experiment: NAME or NAME:PRESET of those that `jaxseg list` names, or the path of a config "
    "file. Any setting of it can be changed: --config.train.steps=500.",
    lock_config=True,
)
WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Checkpoints, metrics and report; default runs/<config name>. A run's own config is used to "
    "evaluate, predict, export and translate if there is no --config.",
)
MODE = flags.DEFINE_enum("mode", "train", MODES, "What to do.")
STEP = flags.DEFINE_string(
    "step",
    None,
    "Checkpoint for evaluate, predict, export and translate: best (with target labels; the default "
    "of all but translate), source_miou, entropy, agreement or neighbourhood_density (without), "
    "last (the default of translate), a step; evaluate also: all.",
)
SPLIT = flags.DEFINE_string(
    "split",
    None,
    "Split of the target to evaluate on, instead of data.target.val_split: test, val, train.",
)
WEIGHTS = flags.DEFINE_string(
    "weights",
    None,
    "For evaluate, predict, export and translate instead of a checkpoint: a .pth, .npz or "
    ".safetensors file (published ones are recognised), for evaluate also a folder.",
)
SAVE = flags.DEFINE_string(
    "save", None, "New folder that gets --weights=FILE as a checkpoint; use it as a --workdir."
)
ENSEMBLE = flags.DEFINE_string(
    "ensemble",
    None,
    "For evaluate, predict and export: DIR[@STEP],DIR2,... of runs (or weight files) to average.",
)
ENSEMBLE_WEIGHTS = flags.DEFINE_string(
    "ensemble_weights", None, "Weights of the ensemble's members, as 0.7,0.3; equal by default."
)
ENSEMBLE_OF = flags.DEFINE_enum(
    "ensemble_of", "logits", ["logits", "probabilities"], "What of the members is averaged."
)
INIT_FROM = flags.DEFINE_string(
    "init_from",
    None,
    "For train: fine-tunes a finished network on other data or classes: the folder of a run, as "
    "DIR or DIR@STEP, or a weights file.",
)
INPUT = flags.DEFINE_string(
    "input",
    None,
    "For predict: an image or video, a folder of them, or a pattern such as 'shots/*.jpg'.",
)
OUTPUT = flags.DEFINE_string(
    "output",
    "predictions",
    "Folder for the pictures of predict and the data set of translate; for export a file in the "
    "workdir.",
)
JUDGE = flags.DEFINE_string(
    "judge",
    None,
    "For translate: folder of a run trained on the source alone; its segmenter tells whether the "
    "content of the translated images has survived.",
)
SUBMISSION = flags.DEFINE_bool(
    "submission",
    False,
    "For predict: also write <stem>_labelIds.png with Cityscapes' label ids, at the image's size.",
)
FORMAT = flags.DEFINE_enum("format", "jax", ("jax", "onnx"), "What export writes.")
SIZE = flags.DEFINE_string(
    "size", None, "For export: HEIGHT,WIDTH of the images, data.target.size by default."
)
SPACE = flags.DEFINE_string("space", None, "For search: a TOML file of settings and their values.")
TRIALS = flags.DEFINE_integer("trials", None, "For search: how many, of all workers together.")
CRITERION = flags.DEFINE_string(
    "criterion",
    "entropy",
    "For search: what trials are compared by: source_miou, entropy, agreement or "
    "neighbourhood_density (without target labels), or labels (target mIoU).",
)
PATIENCE = flags.DEFINE_float(
    "patience", 300.0, "For search: seconds until the trial of a silent worker is taken over."
)
PROFILE = flags.DEFINE_integer(
    "profile", None, "For train: so many steps are traced, and their dearest operations shown."
)
DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "Join a multi-process run; the topology comes from SLURM, Open MPI or the TPU pod.",
)
COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0, if several processes are started by hand."
)
PROCESSES = flags.DEFINE_integer("processes", None, "Number of processes, with --coordinator.")
PROCESS = flags.DEFINE_integer("process", None, "Index of this process, from 0.")

# Each flag with the modes that accept it; those of all modes may be given empty.
OF_MODES = {
    "config": _EVERY,
    "workdir": _EVERY,
    "init_from": ("train",),
    "step": (*_LOADED, "translate"),
    "judge": ("translate",),
    "split": ("evaluate",),
    "weights": (*_LOADED, "translate"),
    "save": _FINISHED,
    "ensemble": _LOADED,
    "ensemble_weights": _LOADED,
    "ensemble_of": _LOADED,
    "input": ("predict",),
    "output": ("predict", "translate", "export"),
    "submission": ("predict",),
    "format": ("export",),
    "size": ("export",),
    **dict.fromkeys(("space", "trials", "criterion", "patience"), ("search",)),
    "profile": ("train",),
} | dict.fromkeys(
    ("distributed", "coordinator", "processes", "process"), ("train", "evaluate", "predict")
)


def help_text(mode: str = "") -> str:
    """The flags of a mode, or of all and --mode, with their defaults."""
    names = [name for name, modes in OF_MODES.items() if not mode or mode in modes]
    lines = []
    for name in names + ([] if mode else ["mode"]):
        flag = flags.FLAGS[name]
        default = "" if flag.default in (None, False, "") else f" (default {flag.default})"
        lines.append(f"  --{name}: {' '.join(flag.help.split())}{default}")
    return "\n".join(lines)


def misuse() -> str | None:
    """The message about flags that do not go together, or None."""
    mode = MODE.value
    own = {name: modes for name, modes in OF_MODES.items() if modes != _EVERY}
    given = {name for name in own if flags.FLAGS[name].present}
    for name in sorted(given):
        if mode not in own[name]:
            remedy = ": --init_from=FILE starts a training" if name == "weights" else ""
            *others, last = own[name]
            taken = f"{', '.join(others)} and {last}" if others else last
            return f"--{name} is for --mode={taken}, not {mode}{remedy}"
        if flags.FLAGS[name].value == "":
            return f"--{name} is empty"
    sources = sorted(given & {"step", "weights", "ensemble"})
    if len(sources) > 1:
        remedy = ": a member's step is given as DIR@STEP" if "ensemble" in sources else ""
        return f"--{sources[0]} and --{sources[1]} cannot be used together{remedy}"
    needs = {"save": "weights", "ensemble_weights": "ensemble", "ensemble_of": "ensemble"}
    for name, needed in needs.items():
        if name in given and needed not in given:
            return f"--{name} needs --{needed}"
    if mode == "predict" and "input" not in given:
        return "--mode=predict needs --input=FILE_OR_FOLDER"
    if mode == "translate" and "output" not in given:
        return "--mode=translate needs --output=FOLDER"
    if mode in ("predict", "translate", "export") and STEP.value == "all":
        return f"--step=all is for --mode=evaluate; choose one step for {mode}"
    if mode == "search" and not {"space", "trials"} <= given:
        return "--mode=search needs --space=FILE and --trials=N"
    if "profile" in given and PROFILE.value < 1:
        return f"--profile={PROFILE.value}: give 1 step or more"
    if "size" in given and size() is None:
        return f"--size={SIZE.value} is not HEIGHT,WIDTH"
    return None


def size() -> tuple[int, int] | None:
    """--size as (height, width); None if it is not given or no size."""
    parts = (SIZE.value or "").split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        return None
    height, width = map(int, parts)
    return (height, width) if min(height, width) > 0 else None


def path(flag: flags.FlagHolder) -> str:
    """A flag's path, in which '~' is the home folder; '' if it was not given."""
    return os.path.expanduser(flag.value or "")


def equals(name: str) -> str:
    """'=' for a flag that takes a value, '' for one that is given alone."""
    return "" if flags.FLAGS[name].boolean else "="

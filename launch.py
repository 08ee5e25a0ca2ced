"""Trains, evaluates or predicts with one config; flags only.

python launch.py --config=configs/advent.py
python launch.py --config=configs/advent.py:gta5_cityscapes --config.data.root=DIR --workdir=DIR
python launch.py --config=configs/advent.py --mode=evaluate --step=800
python launch.py --config=configs/advent.py --mode=predict --input=photos --output=predictions
"""

import contextlib
import os
import re
import sys

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Experiment: configs/NAME.py or configs/NAME.py:PRESET.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Checkpoints, metrics and report; default runs/<config name>."
)
_MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate", "predict"], "What to do.")
_STEP = flags.DEFINE_string(
    "step", "best", "Checkpoint for evaluate and predict: best, last or a step."
)
_INPUT = flags.DEFINE_string("input", None, "An image or a folder of images, for predict.")
_OUTPUT = flags.DEFINE_string("output", "predictions", "Folder for the pictures of predict.")


def main(argv):
    if len(argv) > 1:
        _fail(f"unexpected argument {argv[1]!r}; settings are given as --config.KEY=VALUE")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # libraries tell of backends they did not find
    try:
        config = _CONFIG.value
        workdir = _WORKDIR.value or os.path.join("runs", config.name)
        from jaxseg.errors import UserError  # the heavy imports come after the flags are known good
    except Exception as error:
        _fail(str(error))
    try:
        if _MODE.value == "train":
            from jaxseg import train

            sys.exit(train.run(config, workdir))
        from jaxseg import apply

        if _MODE.value == "evaluate":
            apply.evaluate(config, workdir, _STEP.value)
        elif _INPUT.value is None:
            raise UserError("--mode=predict needs --input=FILE_OR_FOLDER")
        else:
            apply.predict(config, workdir, _STEP.value, _INPUT.value, _OUTPUT.value)
    except UserError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("launch.py: interrupted", file=sys.stderr)
        sys.exit(130)


def _parse(argv):
    """Flags with every mistake told in one line."""
    for argument in argv[1:]:
        for prefix in ("--config=", "-config="):
            if argument.startswith(prefix):
                path = argument.removeprefix(prefix).split(":")[0]
                if not os.path.isfile(path):
                    _fail(f"no config file {path!r}; the experiments are in configs/")
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            rest = flags.FLAGS(argv)
            if flags.FLAGS["config"].value is None and not _asks_help(argv):
                _fail("--config is missing: try --config=configs/advent.py")
            _ = flags.FLAGS["config"].value and _CONFIG.value
    except Exception as error:  # ml_collections raises whatever the config or an override raises
        _fail(_one_line(error, argv))
    if _asks_help(argv):
        app.parse_flags_with_usage(argv)
    return rest


def _asks_help(argv):
    return any(a.lstrip("-") in ("help", "helpfull", "helpshort", "h") for a in argv[1:])


def _one_line(error, argv):
    """ml_collections' own messages, some of them whole tracebacks, as one line with the flag."""
    text = str(error).strip().splitlines()[-1] if "Traceback" in str(error) else str(error)
    text = " ".join(text.replace("\\n", " ").replace("\\'", "'").split())
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

"""Ensembles for `--ensemble`: networks, each built from its own config, that are averaged.

ADVENT (Vu et al., 2019) averages the logits of AdvEnt and MinEnt with equal weights, FDA (Yang and
Soatto, 2020) the probabilities of three networks, one for each width of the band.
"""

import os
from collections.abc import Callable, Collection

from ml_collections import ConfigDict

from jaxseg.errors import UserError
from jaxseg.evaluation import protocol
from jaxseg.experiment import restore, run_classes
from jaxseg.experiment.restore import Loaded
from jaxseg.storage import run_folder


def load(
    config: ConfigDict,
    members: str,
    weights: str = "",
    *,
    of: str = "logits",
    given: Collection[str] = (),
    announce: Callable[[str], None] = print,
) -> Loaded:
    """Loads an ensemble as one network.

    Args:
      config: of the experiment; sets the data, the protocol, and the classes of all members.
      members: 'DIR[@STEP],DIR2,...': folders of runs, each built from its own config.json, so that
        networks and methods may differ, at the best step unless STEP is given (a number, or one of
        `restore.CHOICES`); or weight files for `restore.from_weights`.
      weights: 'a,b,...', one number for each member; equal if empty. They are normalised.
      of: what is averaged, one of `protocol.AVERAGES`.
      given, announce: see `restore.from_workdir`.

    Raises:
      UserError: a member is missing or has other classes, or the weights are invalid.
    """
    wanted = [part.strip() for part in members.split(",")]
    if not all(wanted):
        raise UserError(f"--ensemble={members}: give DIR[@STEP],DIR2,... without empty places")
    shares = _shares(weights, len(wanted))
    loaded = [one(config, member, given=given, announce=announce) for member in wanted]
    names = []
    for member, each, share in zip(wanted, loaded, shares, strict=True):
        step = each.facts.get("step")
        names.append(member if step is None else f"{_folder_and_step(member)[0]}@{step}")
        announce(f"ensemble: {share:.2f} of {names[-1]}")
    predict = protocol.ensemble([each.method.predict for each in loaded], shares, of)
    return Loaded(
        f"ensemble of {len(loaded)}",
        {"ensemble": names, "ensemble_weights": shares, "ensemble_of": of},
        config,
        loaded[0].method._replace(predict=predict, views={}),
        {key: tuple(each.model[key] for each in loaded) for key in ("params", "stats", "memory")},
    )


def one(
    config: ConfigDict,
    member: str,
    *,
    step: str = "best",
    flag: str = "ensemble",
    given: Collection[str] = (),
    announce: Callable[[str], None] = print,
) -> Loaded:
    """Loads a network that may be of another experiment, but has the same classes.

    Args:
      config: sets the classes, and the dtype if `given` has 'net.dtype'; all else of a run's
        network and method is of its own config.json.
      member: 'DIR' or 'DIR@STEP' of a run, or a weights file.
      step: of a run where none is given.
      flag: of the command line, for messages.
      given, announce: see `restore.from_workdir`.

    Raises:
      UserError: no such run or file, or one with other classes.
    """
    if os.path.isfile(os.path.expanduser(member)):
        return restore.from_weights(config, member, given=given, announce=announce)
    folder, step = _folder_and_step(member, step)
    if not os.path.isdir(folder):
        raise UserError(f"--{flag}: {folder!r} is neither the folder of a run nor a weights file")
    own = run_folder.read_config(folder)
    kept = {"net.dtype"} & set(given)
    if kept:
        own.net.dtype = config.net.dtype
    try:
        run_classes.compare(config, own, folder)
        return restore.first(restore.from_workdir(own, folder, step, given=kept, announce=announce))
    except (AttributeError, KeyError) as error:
        reason = str(error).strip("\"'").splitlines()[0]
        raise UserError(
            f"{folder}/{run_folder.CONFIG} is not of this version of jaxseg ({reason}): "
            "train again, or put the missing settings into it"
        ) from error


def _folder_and_step(member: str, otherwise: str = "best") -> tuple[str, str]:
    folder, at, step = member.rpartition("@")
    known = step in restore.CHOICES or step.isdigit()
    folder, step = (folder, step) if at and known else (member, otherwise)
    return os.path.expanduser(folder), step


def _shares(weights: str, count: int) -> list[float]:
    try:
        numbers = [float(part) for part in weights.split(",")] if weights else [1.0] * count
        protocol.ensemble([None] * count, numbers)  # raises ValueError for invalid weights
    except ValueError as error:
        raise UserError(f"--ensemble_weights={weights}: {error}; give one for each") from error
    return [number / sum(numbers) for number in numbers]

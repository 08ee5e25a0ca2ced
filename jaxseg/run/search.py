"""`--mode=search`: searches for good settings with Optuna, in any number of processes and hosts.

Every worker runs the same command on the same work folder. It asks the study, a journal file there,
for values, trains them as an ordinary run in <workdir>/trial_0007, tells the study the criterion of
each evaluation, and ends runs that fall behind. The criterion sees no target label unless that is
asked for; then the study, its file and all that is printed say so.
"""

import contextlib
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

import jaxseg
from jaxseg.errors import UserError
from jaxseg.evaluation import selection
from jaxseg.run import search_space, search_workers, sweep_members
from jaxseg.storage import logs, run_folder

CHOICES = (*(c.key for c in selection.CRITERIA), "labels")
TRIAL = (sys.executable, "-m", "jaxseg.run.trial")  # followed by the trial's folder
FEW = 3  # trials refused by training, before any has succeeded, after which a search ends


class Search(NamedTuple):
    """What a worker needs.

    Attributes:
      config: of all trials, but for the settings of the space.
      folder: of the study.
      space: setting -> values.
      criterion: that trials are compared by.
      study: the optuna.Study.
      announce: called with a line of text.
    """

    config: ConfigDict
    folder: Path
    space: dict[str, search_space.Range]
    criterion: selection.Criterion
    study: Any
    announce: Callable[[str], None]


def run(
    config: ConfigDict,
    workdir: str,
    space: str,
    trials: int,
    criterion: str = "entropy",
    patience: float = search_workers.PATIENCE,
    announce: Callable[[str], None] = print,
) -> int:
    """Takes part in a search until it has `trials` trials.

    Args:
      config: of the experiment.
      workdir: of the search; trials are runs in it. Workers on several hosts share it.
      space: a TOML file, see `search_space`.
      trials: number of trials in all, of all workers together.
      criterion: one of `CHOICES`; 'labels' is target mIoU.
      patience: seconds without a sign of life after which another host's trial is taken over.

    Returns:
      The exit code: 0, or 130 after Ctrl-C.

    Raises:
      UserError: Optuna is missing, a mistake in the space, or a study of other settings.
    """
    if importlib.util.find_spec("optuna") is None:
        raise UserError("--mode=search needs Optuna: pip install 'jaxseg[search]'")
    if trials < 1:
        raise UserError(f"--trials={trials}: give 1 or more")
    if config.sweep.over:
        raise UserError("config.sweep.over: a trial is one run; put the settings into --space")
    search = _opened(config, workdir, space, criterion, announce)
    code = 0
    try:
        while True:
            search_workers.free_stale(search.study, search.folder, patience, announce)
            trial = _next(search, trials)
            if trial is None:
                break
            _tried(search, trial)
    except KeyboardInterrupt:
        announce("interrupted; the same command goes on")
        code = 130
    _conclude(search)
    return code


def chosen(criterion: str) -> selection.Criterion:
    """The criterion of a name; 'labels' is target mIoU."""
    if criterion not in CHOICES:
        raise UserError(f"--criterion={criterion}; choose one of {', '.join(CHOICES)}")
    if criterion == "labels":
        return selection.LABELS._replace(title="mIoU with target labels")
    return next(c for c in selection.CRITERIA if c.key == criterion)


def optuna_study(config: ConfigDict, folder: Path, by: selection.Criterion) -> Any:
    """Opens the study of a criterion in its journal file, or begins it."""
    import optuna

    own = "by_target_labels" if by.key == selection.LABELS.key else f"by_{by.key}"
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        backend = optuna.storages.journal.JournalFileBackend(str(folder / f"search_{own}.journal"))
        return optuna.create_study(
            study_name=f"{config.name}_{own}",
            storage=optuna.storages.JournalStorage(backend),
            direction="maximize" if by.higher else "minimize",
            sampler=optuna.samplers.TPESampler(constant_liar=True, multivariate=True),
            pruner=optuna.pruners.MedianPruner(
                n_startup_trials=4, n_warmup_steps=config.train.warmup_steps + 1
            ),
            load_if_exists=True,
        )


def _opened(config, workdir, space, criterion, announce) -> Search:
    by, ranges = chosen(criterion), search_space.read(space, config)
    folder = Path(workdir)
    study = optuna_study(config, folder, by)
    same = json.loads(json.dumps({name: list(each) for name, each in ranges.items()}))
    before = study.user_attrs.get("space")
    if before is not None and before != same:
        raise UserError(f"{folder} holds a search of another space: give another --workdir")
    own = search_space.others(ranges, config)
    first = study.user_attrs.get("settings", own)
    if different := sorted(k for k in own.keys() | first.keys() if own.get(k) != first.get(k)):
        key = min(different, key=lambda k: not k.startswith("train."))  # others follow from these
        raise UserError(
            f"{folder} holds a search with config.{key}={first.get(key)}, not {own.get(key)}: its "
            "trials could not be compared; give another --workdir"
        )
    for name, value in (("space", same), ("settings", own), ("criterion", selection.title(by))):
        if study.user_attrs.get(name) != value:
            study.set_user_attr(name, value)
    if start := search_space.defaults(ranges, config):
        study.enqueue_trial(start, skip_if_exists=True)
    announce(f"trials are compared by {selection.title(by)}; the study is {study.study_name}")
    return Search(config, folder, ranges, by, study, announce)


def _next(search: Search, trials: int) -> Any:
    """The next trial, or None if there are enough."""
    if len(search_workers.counted(search.study)) >= trials:
        return None
    trial = search.study.ask()
    earlier = [t for t in search_workers.counted(search.study) if t.number < trial.number]
    if len(earlier) >= trials:  # another worker was faster
        trial.set_user_attr("surplus", True)
        search.study.tell(trial, state=_state("FAIL"))
        return None
    return trial


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]


def _tried(search: Search, trial: Any) -> None:
    """Trains one trial to its end and tells the study."""
    values = {name: each.suggest(trial, name) for name, each in search.space.items()}
    name = trial.user_attrs.get("folder") or f"trial_{trial.number:04d}"
    trial.set_user_attr("folder", name)
    folder = search.folder / name
    config = sweep_members.with_values(search.config, values)
    config.name = f"{search.config.name}_{name}"
    folder.mkdir(parents=True, exist_ok=True)
    run_folder.write_text(folder / run_folder.CONFIG, json.dumps(config.to_dict(), indent=1))
    shown = " ".join(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
                     for key, value in values.items())  # fmt: skip
    search.announce(f"trial {trial.number} in {folder}: {shown}")
    told: dict[int, float] = {}
    pruned = False
    with search_workers.at_work(folder) as alive:
        with _training(folder) as process:
            try:
                while process.poll() is None:
                    alive(process.pid)
                    time.sleep(0.5)
                    if not pruned and _report(search, trial, folder, told):
                        pruned = True
                        process.send_signal(signal.SIGINT)
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
                process.wait()
                search_workers.hand_back(search.study, trial.number, name)
                raise
        _report(search, trial, folder, told)
        _tell(search, trial, folder, told, process.returncode, pruned)


@contextlib.contextmanager
def _training(folder: Path):
    """The process that trains a folder's run; it saves and ends when this one does."""
    root = str(Path(jaxseg.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    with open(folder / "log.txt", "ab") as log:
        process = subprocess.Popen(
            [*TRIAL, str(folder)], stdin=subprocess.PIPE,
            stdout=log, stderr=subprocess.STDOUT, env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C reaches it through its worker
        )  # fmt: skip
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait()


def _report(search: Search, trial: Any, folder: Path, told: dict[int, float]) -> bool:
    """Tells the study of new evaluations; returns whether the trial is to be pruned."""
    new = False
    for result in logs.evaluations(folder):
        step, value = result["step"], result.get(search.criterion.key)
        if step not in told and value is not None and math.isfinite(value):
            told[step] = float(value)
            trial.report(told[step], step)
            new = True
    return new and trial.should_prune()


def _tell(search, trial, folder, told, code, pruned) -> None:
    by = search.criterion
    value = told[max(told)] if told else None
    if pruned and code != 0:
        search.study.tell(trial, state=_state("PRUNED"))
        search.announce(f"trial {trial.number}: pruned at step {max(told)}, {by.title} {value:.4g}")
    elif code == 0 and value is not None:
        search.study.tell(trial, value)
        search.announce(f"trial {trial.number}: {by.title} {value:.4g}")
    else:
        last = (folder / "log.txt").read_text(errors="replace").strip().splitlines()[-1:]
        why = last[0] if last else f"training ended with exit code {code}"
        if code == 0:
            why = f"no evaluation has a {by.key}"
        trial.set_user_attr("error", why)
        search.study.tell(trial, state=_state("FAIL"))
        search.announce(f"trial {trial.number}: failed: {why}")
        done = search_workers.counted(search.study)
        failed = [t for t in done if "error" in t.user_attrs]
        if len(failed) >= FEW and all(t.state.name in ("FAIL", "RUNNING") for t in done):
            raise UserError(f"{len(failed)} trials failed and none succeeded: {why}")


def table(study: Any) -> list[Mapping[str, Any]]:
    """The finished trials, the best first, pruned ones last."""
    sign = -1 if study.direction.name == "MAXIMIZE" else 1
    done = [t for t in study.get_trials(deepcopy=False) if t.state.name in ("COMPLETE", "PRUNED")]
    done.sort(key=lambda t: (t.state.name, sign * t.value if t.value is not None else 0))
    return [
        {"trial": t.number, "state": t.state.name.lower(), "value": t.value,
         "folder": t.user_attrs.get("folder"), "values": t.params}
        for t in done
    ]  # fmt: skip


def _conclude(search: Search) -> None:
    """Prints the best trials and writes search.json."""
    rows = table(search.study)
    title = selection.title(search.criterion)
    found = {"study": search.study.study_name, "compared_by": title, "trials": rows}
    run_folder.write_text(search.folder / "search.json", json.dumps(found, indent=1))
    best = "; the best:" if rows else ""
    search.announce(f"{len(rows)} trials, compared by {title}{best}")
    for row in rows[:5]:
        value = "pruned" if row["state"] == "pruned" else f"{row['value']:.4g}"
        values = " ".join(f"--config.{key}={each}" for key, each in row["values"].items())
        search.announce(f"  {row['folder']}  {value}  {values}")

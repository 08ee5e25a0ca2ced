"""Finished networks from what the command line names: a run, weights, an ensemble."""

from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxseg.errors import UserError
from jaxseg.experiment import check, ensembles, restore, settings
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.restore import Loaded
from jaxseg.experiment.state import first_state
from jaxseg.storage import run_folder
from jaxseg.storage.checkpoints import checkpoint


def write_checkpoint(
    loaded: Loaded, folder: str, config: ConfigDict, announce: Callable[[str], None] = print
) -> None:
    """Writes a network as the checkpoint of step 0 of a run, with its config.json.

    Everything that the network does not have (discriminators, optimisers) is as at the start of a
    training.

    Args:
      loaded: from a weights file.
      folder: of the run to be; it must not hold checkpoints.
      config: as given, to tell which settings the network changed.

    Raises:
      UserError: `folder` holds checkpoints already.
    """
    saved = Path(folder, "checkpoints")
    if saved.is_dir() and any(path.name.isdigit() for path in saved.iterdir()):
        raise UserError(f"--save={folder} holds checkpoints already: give a new folder")
    own, method = loaded.config, loaded.method
    state = first_state(own, method, make_optimisers(own))
    net, stats = (loaded.model[key] for key in ("params", "stats"))
    gen = {**state.params["gen"], **jax.tree.map(jnp.asarray, net["gen"])}
    state = state._replace(
        params={**state.params, "gen": gen},
        stats={**state.stats, **jax.tree.map(jnp.asarray, stats)},
    )
    with checkpoint.open_manager(saved, keep=own.train.keep) as manager:
        checkpoint.save(manager, jax.device_get(state), own.to_dict())
    run_folder.write_config(own, folder)
    flags = [
        f"--config.net.{key}={value}".replace(" ", "")
        for key, value in own.net.items()
        if value is not None and value != config.net[key]
    ]
    announce(
        f"saved as step 0 of {folder}; --workdir={folder} evaluates it, and trains on from it"
        + (f" with {' '.join(flags)}" if flags else "")
    )


def prepare(config: ConfigDict) -> None:
    check.check(config)
    settings.use_compile_cache(config)


def load_finished(config, workdir, step, weights, ensemble, ensemble_weights, given) -> Loaded:
    if ensemble:
        return ensembles.load(config, ensemble, ensemble_weights, given=given)
    if weights:
        return restore.from_weights(config, weights, given=given)
    return restore.first(restore.from_workdir(config, workdir, step, given=given))


def load_several(config, workdir, weights, given) -> Iterator[Loaded]:
    if not weights:
        yield from restore.from_workdir(config, workdir, "all", given=given)
        return
    loaded = None
    for path in restore.weight_files(weights):
        loaded = restore.from_weights(config, path, given=given, before=loaded)
        yield loaded

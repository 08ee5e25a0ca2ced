"""A config file whose preset is the folder of a run: the run's own settings.

jaxseg train --config=jaxseg/experiment/of_run.py:runs/advent_streets --workdir=runs/advent_streets

The command line takes it where there is a --workdir and no --config; the web page resumes, extends
and clones runs with it, whichever command they were started with.
"""

from ml_collections import ConfigDict


def get_config(folder: str) -> ConfigDict:
    """The settings in the config.json of a run's folder; UserError without one."""
    from jaxseg.storage import run_folder  # slow to import, and others read this file's path

    return run_folder.read_config(folder).lock()

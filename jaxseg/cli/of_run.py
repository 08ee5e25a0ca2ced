"""A config file that gives the config of a run: --config=of_run.py:FOLDER."""


def get_config(workdir: str):
    """The config.json of a run's folder."""
    from jaxseg.storage import run_folder

    return run_folder.read_config(workdir).lock()

"""Turns a weights file into a run folder, whose network every page and mode can use.

    python -m jaxseg.web.importing FILE CONFIG FOLDER

CONFIG is '' for a published network, which is recognised, or 'advent:streets' for a file with this
project's names.
"""

import sys
from pathlib import Path


def main(file: str, config: str, folder: str) -> int:
    """Writes the run folder; returns the exit code, 2 for a file that cannot be used."""
    from jaxseg.errors import UserError
    from jaxseg.experiment import check, finished, restore
    from jaxseg.run import segment
    from jaxseg.web import launcher

    try:
        given = launcher.load(config) if config else segment.config_of(Path(file))
        given = given.copy_and_resolve_references()
        check.check(given)
        loaded = restore.from_weights(given, file)
        finished.write_checkpoint(loaded, folder, given)
    except (UserError, ValueError) as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))

"""Turns a weights file into a run folder, whose network every page and mode can use.

    python -m jaxseg.web.importing FILE CONFIG FOLDER

CONFIG is '' for a published network, which is recognised; for a file with this project's names it
is 'advent:streets' or, as 'of_run.py:FOLDER', the settings of a run.
"""

import sys


def main(file: str, config: str, folder: str) -> int:
    """Writes the run folder; returns the exit code, 2 for a file that cannot be used."""
    import jaxseg
    from jaxseg.errors import UserError
    from jaxseg.experiment import finished, restore

    try:
        own = jaxseg.load(file, config=config or None).config  # with what is recognised in the file
        finished.write_checkpoint(restore.from_weights(own, file), folder, own)
    except UserError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))

"""One trial of a search as a process: trains the run whose config.json is in a folder.

    python -m jaxseg.run.trial FOLDER

It ends in good order, as after Ctrl-C, when its standard input ends: then the worker that started
it is gone, and the checkpoint is what another worker goes on from.
"""

import os
import signal
import sys
import threading


def main(folder: str) -> int:
    """Trains; returns the exit code, 2 for a mistake in the settings."""
    from jaxseg.engine import signals

    signals.guard()
    threading.Thread(target=_end_with_worker, daemon=True).start()
    from jaxseg.errors import UserError
    from jaxseg.run import train
    from jaxseg.storage import run_folder

    signals.unwind()
    try:
        return train.run(run_folder.read_config(folder).lock(), folder)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


def _end_with_worker() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

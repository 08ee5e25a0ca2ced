r"""Trains, evaluates or predicts with one config, or inspects its data; flags only.

python launch.py --config=configs/advent.py
python launch.py --config=configs/advent.py --mode=inspect
python launch.py --config=configs/advent.py:gta5_cityscapes --config.data.root=DIR --workdir=DIR
python launch.py --config=configs/advent.py --mode=evaluate --step=entropy
python launch.py --config=configs/advent.py --mode=predict --input=photos --output=predictions
python launch.py --config=configs/advent.py:gta5_cityscapes --mode=evaluate --weights=advent.pth
python launch.py --config=configs/cyclegan.py --mode=translate --output=translated
python launch.py --config=configs/advent.py --mode=evaluate --ensemble=runs/a,runs/b@700
srun python launch.py --config=configs/advent.py:gta5_cityscapes --distributed \
    --config.train.batch=16
python launch.py --mode=web --runs=runs --port=8000
"""

import signal
import sys

if __name__ == "__main__":
    if "--mode=web" in sys.argv[1:]:  # has no config, and flags of its own
        from jaxseg.web import command

        sys.exit(command.main("launch.py", [a for a in sys.argv[1:] if a != "--mode=web"]))
    from jaxseg.engine import pages

    pages.ask()  # may start the program again
    # Until there is a handler: KeyboardInterrupt would show an import's traceback, or be lost.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from jaxseg.engine import signals

    signals.guard()  # before the slow imports
    from jaxseg.cli import modes

    modes.main(["launch.py", *sys.argv[1:]], usage=__doc__)

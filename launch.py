"""Trains, evaluates or predicts with one config, or inspects its data; flags only.

python launch.py --config=configs/advent.py
python launch.py --config=configs/advent.py --mode=inspect
python launch.py --config=configs/advent.py:gta5_cityscapes --config.data.root=DIR --workdir=DIR
python launch.py --config=configs/advent.py --mode=evaluate --step=entropy
python launch.py --config=configs/advent.py --mode=predict --input=photos --output=predictions
python launch.py --config=configs/advent.py:gta5_cityscapes --mode=evaluate --weights=advent.pth
python launch.py --config=configs/advent.py --mode=evaluate --ensemble=runs/a,runs/b@700
srun python launch.py --config=configs/advent.py:gta5_cityscapes --distributed
"""

import sys

from jaxseg.cli import modes

if __name__ == "__main__":
    modes.main(["launch.py", *sys.argv[1:]], usage=__doc__)

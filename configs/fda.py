"""FDA: Fourier domain adaptation (Yang and Soatto, CVPR 2020).

Source images get the lowest frequencies of a random target image; the target's entropy is lowered
with a penalty that weighs the uncertain pixels more.

python launch.py --config=configs/fda.py                     # streets
python launch.py --config=configs/fda.py:gta5_cityscapes     # published: 50.45 mIoU, with all below
python launch.py --config=configs/fda.py:cityscapes_acdc     # 45.7 in the table of DAFormer

Multi-band transfer is the mean of runs with --config.augment.source.fda=0.01, 0.05 and 0.09:
--mode=evaluate --ensemble=runs/a,runs/b,runs/c --ensemble_of=probabilities. The published number
also has two rounds of self-training on the pseudo labels of that mean.
"""

from configs import common


def get_config(preset: str = "streets"):
    """See `common.PRESETS`."""
    config = common.experiment("fda", preset, family="")
    # Below 100 rows 0.01 of the shorter side is not one frequency.
    config.augment.source.fda = 0.02 if min(config.data.source.size) < 100 else 0.01
    config.method = common.method(
        "minent",
        segmentation_weights={"main": 1.0, "aux": 0.1},
        entropy_weights=common.weights(preset, 20.0, main=5e-3, aux=1e-3),
        charbonnier=2.0,
        **common.rarity(config),
    )
    return config.lock()

"""CyCADA (Hoffman et al., ICML 2018): CycleGAN that keeps the content, and aligned outputs.

python launch.py --config=configs/cycada.py                     # streets
python launch.py --config=configs/cycada.py:gta5_cityscapes     # published: 39.5 mIoU (DRN-26)
python launch.py --config=configs/cycada.py --config.method.settings.lam_output=0    # images only

The segmenter that judges the content is a copy of the trained one, taken when the warm-up ends.
"""

from configs import style_transfer


def get_config(preset: str = "streets"):
    """See `common.PRESETS`."""
    return style_transfer.experiment("cycada", preset, 1.0, 0.01).lock()

"""CycleGAN (Zhu et al., ICCV 2017), with a segmenter that learns from the translated source.

python launch.py --config=configs/cyclegan.py                     # streets
python launch.py --config=configs/cyclegan.py:gta5_cityscapes     # crops of 400x400
python launch.py --config=configs/cyclegan.py --mode=translate --output=DIR    # the whole source

On the embedded pairs GIO-Ada's transform network, which begins as the identity, takes the place of
the generators: --config.translator.architecture=cyclegan (or gio_ada) for the other one.
"""

from configs import style_transfer


def get_config(preset: str = "streets"):
    """See `common.PRESETS`."""
    return style_transfer.experiment("cyclegan", preset, 0.0, 0.0).lock()

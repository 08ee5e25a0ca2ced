"""What a few labels are worth: the oracle's network on every twentieth of the target's labels.

Whoever adapts without labels should know what an afternoon of labelling would have brought.

python launch.py --config=configs/few_labels.py    # streets: 20 of 400 images
python launch.py --config=configs/few_labels.py --config.data.source_share=0.01    # 4 of them
"""

from configs import common


def get_config(preset: str = "streets"):
    """See `common.PRESETS`."""
    config = common.experiment("few_labels", preset)
    common.learn_target(config)
    config.data.source_share = 0.05  # strong colours stay: they help where images are few
    config.net.statistics = "source"
    config.method = common.method(
        "source_only", segmentation_weights={"main": 1.0, "aux": 0.1}, **common.rarity(config)
    )
    return config.lock()

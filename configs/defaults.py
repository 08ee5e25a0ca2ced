"""The settings that every experiment has, with the values that most keep."""

from ml_collections import ConfigDict


def experiment(name: str) -> ConfigDict:
    """Settings without data, network, method and optimisers; they follow in `common.experiment`.

    Args:
      name: of the experiment; it names the run's folder.
    """
    config = ConfigDict()
    config.name = name
    config.seed = 0
    config.compile_cache = True  # keep compiled programs in the user's cache folder
    # Initial weights: a package's by name (docs/weights.md), or a weights file. `excused` are
    # regular expressions for tensors that may be left over or missing; () excuses the classifier
    # and heads.
    # `weights` is a whole network to begin from (fine-tuning): the folder of a finished run, as DIR
    # or DIR@STEP, or a weights file; --init_from is the same.
    config.init = ConfigDict(dict(backbone="", excused=(), weights=""))
    config.data = ConfigDict(
        dict(
            root="data",  # folder of the published files: data/gta5, data/cityscapes, ...
            records="",  # folder of the prepared records; empty: the user's cache folder
            classes="cityscapes",  # class set that is learnt and scored
            store_resized=True,  # prepare training images at training size (4x faster to read)
            threads=2,
            translated="",  # folder of --mode=translate: images in place of the source's
            source_share=1.0,  # of the source's training images, evenly spaced over the split
        )
    )
    # Rare-class sampling of the source (DAFormer); 0 draws every image once in an epoch.
    config.data.rare_classes = ConfigDict(
        dict(
            temperature=0.0,  # 0.01 in the paper
            min_pixels=3000,  # of the class in an image, at its stored size
            crop_pixels=1500,  # of the class in a crop
        )
    )
    config.train = ConfigDict(
        dict(
            batch=1,  # images of each domain a step, over all devices
            accumulate=1,  # micro-batches a step
            steps=0,  # where training stops; the schedule's length is optim.*.schedule_steps
            warmup_steps=0,  # first steps on the source alone
            log_every=50,
            eval_every=0,  # 0: after the warm-up and at the end only
            save_every=0,  # 0: with every evaluation
            devices=0,  # 0: as many local devices as the batch can be shared by
            skip_bad_steps=0,  # updates that may be passed over as not finite; the next one ends
            keep=2,  # checkpoints kept beside the best
            keep_criteria=True,  # and beside the best by each criterion without target labels
            pictures=6,  # validation images shown in the report
        )
    )
    # Where a run's numbers go beside metrics.jsonl; see docs/logs.md.
    config.log = ConfigDict(
        dict(
            sinks=("tensorboard",),  # and wandb
            also=(),  # of hparams, text, histograms
        )
    )
    # Masked image consistency (MIC) on top of any method with target images.
    config.mic = ConfigDict(
        dict(
            weight=0.0,  # 1 in the paper; 0 for none
            block=64,  # side of a hidden block in pixels; papers: a 16th of image or crop
            ratio=0.7,  # share of the blocks that are hidden
            tokens=False,  # hides patches of a vision transformer instead (net.architecture=vfm)
            source=False,  # hides blocks of source images as well
            decay=0.999,  # of the teacher, and what follows, where the method has none
            threshold=0.968,
            margins=(0.0, 0.0),
            jitter=0.2,  # colours of the images before blocks are hidden
            jitter_probability=0.8,
            blur_probability=0.5,
            colours="torchvision",  # or kornia, which the papers' code uses: stronger
            weighted=0.0,  # share of the loss that weighs classes by method.settings.class_weights
        )
    )
    config.sweep = ConfigDict(
        dict(
            over="",  # trains members side by side: "seed=0,1,2 optim.gen.lr=5e-4,1e-3" makes six
            how="",  # vmap, map or each, see sweep.members_update; "": by the kind of device
        )
    )
    config.eval = ConfigDict(
        dict(
            batch=1,
            classes="",  # a class set whose names are scored alone, e.g. synthia13; empty for all
            also=(),  # further class sets whose mean IoU is reported beside
            flip=False,  # averages with the prediction of the mirrored image
            scales=(1.0,),  # averages over these scales of the image
            window=(),  # (height, width) of a sliding window; empty for the whole image at once
            stride=(),  # of the window; empty for two thirds of it
            full_resolution=False,  # images as stored instead of at data.target.size
            boundary="evaluate",  # boundary IoU in --mode=evaluate; "always": in training; "": not
            depth_cap=80.0,  # metres; true depth beyond it is not scored
            source_images=100,  # source-validation images that score a snapshot, 0 for none
        )
    )
    return config

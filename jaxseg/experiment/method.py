"""From a config to objects: method, optimisers, first state, the protocol of evaluation.

`networks.py` does the same for networks, `batches.py` for data; what they build knows no config and
takes plain keyword arguments.
"""

import importlib
import pkgutil
from collections.abc import Callable, Sequence

import jax
from ml_collections import ConfigDict

from jaxseg import methods
from jaxseg.engine.method import Method
from jaxseg.errors import UserError, check_keywords
from jaxseg.evaluation import protocol
from jaxseg.experiment import networks
from jaxseg.experiment.settings import label_set
from jaxseg.methods.parts import appearance, masked
from jaxseg.methods.parts.classes import Rarity, check_rarity


def make_method(config: ConfigDict) -> Method:
    """The training method with its networks closed over.

    Raises:
      UserError: an unknown method, settings that it does not take or refuses. Whatever else is
        raised is a mistake in the method's file, and shows where.
    """
    name = config.method.name
    if name not in method_names():
        raise UserError(
            f"no method {name!r}: there is no jaxseg/methods/{name}.py; choose one of "
            + ", ".join(method_names())
        )
    module = importlib.import_module(f"jaxseg.methods.{name}")
    settings = config.method.settings.to_dict()
    if settings.get("mixes", {}).get("copy_blob"):
        settings["copy_pairs"] = _pairs(config, settings.get("copy_pairs", ()))
    else:
        settings.pop("copy_pairs", None)  # nobody asks whether these classes exist
    if "things" in settings:
        classes = label_set(config).classes
        settings["things"] = tuple(classes.index(name) for name in counted(config))
    built = {name: getattr(networks, name)(config) for name in module.NETWORKS}
    lacking = dict(aux=not config.net.aux, hr=not config.net.get("hrda"))
    for value in settings.values():  # weights of levels that the network does not have
        for level in (level for level, lacks in lacking.items() if lacks):
            if isinstance(value, dict):
                value.pop(level, None)
    given = dict(
        built, num_classes=len(label_set(config).classes), statistics=config.net.statistics
    )
    check_keywords(module.make, settings, what=f"method {name}", reserved=given)
    try:
        method = module.make(**given, **settings)
    except UserError as error:
        raise UserError(f"method {name}: {error}") from error
    levels = settings.get("segmentation_weights", {"main": 1.0})
    over_all = settings.get("over_all", False)
    return masked.masked(method, built.get("segmenter"), levels, _masking(config), over_all)


def counted(config: ConfigDict) -> list[str]:
    """The classes that the feature distance is taken on: those of `things` that there are."""
    classes = label_set(config).classes
    return [name for name in config.method.settings.get("things", ()) if name in classes]


def notes(config: ConfigDict) -> list[str]:
    """What a training should be told of its settings, lines of text."""
    settings = config.method.settings
    if not settings.get("feature_distance"):
        return []
    if found := counted(config):
        return [f"the feature distance is taken on {', '.join(found)}"]
    return [
        "note: no class is called as one of config.method.settings.things, so that there is no "
        f"feature distance; the classes are {', '.join(label_set(config).classes)}"
    ]


def _masking(config: ConfigDict) -> masked.Masking:
    """The settings of masked image consistency; runs from before it had none."""
    given = config.get("mic")
    if given is None:
        return masked.Masking()
    if given.weight and given.get("tokens") and config.net.architecture != "vfm":
        raise UserError(
            f"config.mic.tokens=True hides patches of a vision transformer; "
            f"config.net.architecture={config.net.architecture} has none: give vfm, or False"
        )
    own = {name: given[name] for name in given if name in masked.Masking._fields}
    view = appearance.StrongView(
        given.jitter, given.jitter_probability, given.blur_probability,
        colours=given.get("colours", "torchvision"),
    )  # fmt: skip
    try:
        appearance.checked(view)
    except UserError as error:
        raise UserError(f"config.mic.{error}") from error
    hidden = networks.MEAN_COLOURS[config.net.preprocess]
    return masked.Masking(**own, view=view, hidden=hidden, rarity=_masked_rarity(config))


def _masked_rarity(config):
    """How masked images' losses weigh classes; runs from before `mic.weighted` did not."""
    share, settings = config.mic.get("weighted", 0.0), config.method.settings
    rarity = Rarity(share, tuple(settings.get("class_weights", ())), share)
    if share and settings.get("over_all", False):
        raise UserError(
            f"config.mic.weighted={share} and method.settings.over_all=True: choose one"
        )
    try:
        check_rarity(rarity, len(label_set(config).classes))
    except UserError as error:
        raise UserError(f"config.mic.weighted={share}: {error}") from error
    return rarity


def method_names() -> list[str]:
    """The methods there is a file for."""
    modules = pkgutil.iter_modules(methods.__path__)
    return sorted(m.name for m in modules if not (m.ispkg or m.name.startswith("_")))


def _pairs(config: ConfigDict, pairs: Sequence[Sequence[str]]) -> tuple[tuple[int, int], ...]:
    """Pairs of class names as ids."""
    names = label_set(config).classes
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise UserError(
                f"config.method.settings.copy_pairs: {pair!r} is not (class copied, class it is "
                "put on)"
            )
        for name in pair:
            if name not in names:
                raise UserError(
                    f"config.method.settings.copy_pairs: {name!r} is not among the classes of "
                    f"config.data.classes={config.data.classes}: {', '.join(names)}"
                )
    return tuple((names.index(first), names.index(second)) for first, second in pairs)


def make_predictor(config: ConfigDict, method: Method) -> Callable[..., jax.Array]:
    """`method.predict` under the protocol of `config.eval`: flip, scales, window and stride."""
    settings = config.eval
    try:
        return protocol.protocol(
            method.predict,
            flip=settings.flip,
            scales=tuple(settings.scales),
            window=tuple(settings.window),
            stride=tuple(settings.stride),
        )
    except ValueError as error:
        raise UserError(f"config.eval.{error}") from error

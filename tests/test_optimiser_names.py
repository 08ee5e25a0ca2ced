"""Optimisers of optax by name, groups of parameters and schedules, against float64 and figures."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from configs import settings as config_settings
from jaxseg.engine import groups, optim, schedules
from jaxseg.engine.method import State
from jaxseg.errors import UserError
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.run.sweep_members import with_values
from jaxseg.storage.checkpoints import checkpoint

SHAPES = {  # all the same, so that JAX compiles little
    "backbone": {"block0": {"kernel": (3,), "norm1": {"scale": (3,), "bias": (3,)}}},
    "main_head": {"kernel": (3,), "norm": {"scale": (3,)}},
}


def tree(seed):
    rng = np.random.default_rng(seed)
    made = jax.tree.map(lambda s: rng.normal(size=s), SHAPES, is_leaf=lambda x: type(x) is tuple)
    return {"segmenter": made}


def single(values):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), values)


def settings(**given):
    config = importlib.import_module("configs.advent").get_config("streets+scratch")
    with config.unlocked():
        config.optim.gen.update(dict(clip=0.0, lr=0.1) | given)
    return config


def gen(**given):
    return make_optimisers(settings(**given)).txs["gen"]


def names(values):
    return [optim.path_name(p) for p, _ in jax.tree_util.tree_flatten_with_path(values)[0]]


def three_steps(tx):
    params, found = single(tree(0)), []
    state = tx.init(params)
    for step in range(3):
        updates, state = jax.jit(tx.update)(single(tree(step + 1)), state, params)
        params = optax.apply_updates(params, updates)
        found.append(params)
    return found


def by_hand(rule, rate, decay):
    """Three steps in float64; `rule` (gradient, mean, square, t) -> (direction, mean, square)."""
    params = dict(zip(names(tree(0)), jax.tree.leaves(tree(0)), strict=True))
    kept, found = {name: (0.0, 0.0) for name in params}, []
    for step in range(3):
        gradients = jax.tree.leaves(tree(step + 1))
        for name, gradient in zip(params, gradients, strict=True):
            way, *kept[name] = rule(gradient, *kept[name], step + 1)
            own = rate(step) * (10.0 if "head" in name else 1.0)
            params[name] = params[name] - own * (way + decay(name) * params[name])
        found.append(dict(params))
    return found


def adamw(gradient, mean, square, t, b1=0.9, b2=0.95, eps=1e-6):
    mean, square = b1 * mean + (1 - b1) * gradient, b2 * square + (1 - b2) * gradient**2
    return mean / (1 - b1**t) / (np.sqrt(square / (1 - b2**t)) + eps), mean, square


def lion(gradient, mean, square, t, b1=0.9, b2=0.95):
    way = np.sign(b1 * mean + (1 - b1) * gradient)
    return way, b2 * mean + (1 - b2) * gradient, square


@pytest.mark.parametrize("name, rule, more", [("adamw", adamw, "eps=1e-6"), ("lion", lion, "")])
def test_adamw_and_lion_with_groups_are_float64s(name, rule, more):
    """DAFormer's groups: the head at ten times the rate, with decay; other norms without."""
    tx = gen(
        optimiser=name, settings=more, betas=(0.9, 0.95), weight_decay=0.03, schedule="linear",
        schedule_steps=10, head_multiplier=1.0,
        groups=(("_head/", dict(rate=10.0, decay=1.0)), ("norm", dict(decay=0.0))),
    )  # fmt: skip
    decay = lambda path: 0.0 if "norm" in path and "head" not in path else 0.03  # noqa: E731
    expected = by_hand(rule, lambda step: 0.1 * (1 - step / 10), decay)
    for found, wanted in zip(three_steps(tx), expected, strict=True):
        for leaf, value in zip(jax.tree.leaves(found), wanted.values(), strict=True):
            np.testing.assert_allclose(leaf, value, rtol=2e-5, atol=2e-6)


def sgd_by_hand(decay_of, rate_of, clip=0.0):
    params = dict(zip(names(tree(0)), jax.tree.leaves(tree(0)), strict=True))
    momentum = dict.fromkeys(params, 0.0)
    for step in range(3):
        gradients = dict(zip(params, jax.tree.leaves(tree(step + 1)), strict=True))
        moved = [g for name, g in gradients.items() if rate_of(name)]
        norm = np.sqrt(sum(np.sum(g**2) for g in moved))
        for name, gradient in gradients.items():
            gradient = gradient * min(1.0, clip / norm if clip else 1.0)
            gradient = gradient + decay_of(name) * params[name]
            momentum[name] = 0.9 * momentum[name] + gradient
            params[name] = params[name] - 0.1 * rate_of(name) * momentum[name]
    return params


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_the_papers_sgd_takes_groups_too_and_frozen_parameters_no_memory(clip):
    tx = gen(
        groups=(("backbone.*kernel", {"rate": 0}), ("bias$", {"decay": 0.5})), clip=clip,
        schedule="constant", weight_decay=0.02, head_multiplier=3.0,
    )  # fmt: skip
    expected = sgd_by_hand(
        lambda name: 0.01 if name.endswith("bias") else 0.02,
        lambda name: 0.0 if "backbone/block0/kernel" in name else 3.0 if "head" in name else 1.0,
        clip,
    )
    found = three_steps(tx)[-1]
    for leaf, (name, value) in zip(jax.tree.leaves(found), expected.items(), strict=True):
        np.testing.assert_allclose(leaf, value, rtol=2e-5, atol=2e-6, err_msg=name)
    start = single(tree(0))["segmenter"]["backbone"]["block0"]["kernel"]
    np.testing.assert_array_equal(found["segmenter"]["backbone"]["block0"]["kernel"], start)
    kept = sum(x.size for x in jax.tree.leaves(tx.init(single(tree(0)))) if x.ndim)
    assert kept == sum(x.size for x in jax.tree.leaves(tree(0))) - start.size


def test_without_groups_the_state_is_the_papers():
    """The state has the same structure, so that older checkpoints can be resumed."""
    params = single(tree(0))
    plain = optim.sgd(schedules.constant(0.1), multipliers=[("head", 1.0)])
    structure = jax.tree.structure(gen().init(params))
    assert structure == jax.tree.structure(plain.init(params))
    old = settings()  # as it was written before there were groups
    with old.unlocked():
        for name in ("groups", "settings", "warmup_steps", "warmup_start"):
            del old.optim.gen[name], old.optim.disc[name]
    assert structure == jax.tree.structure(make_optimisers(old).txs["gen"].init(params))


def test_a_network_with_fixed_norms_keeps_them_whatever_the_groups_say():
    config = settings(groups=((".", dict(rate=2.0)),), head_multiplier=5.0, momentum=0.0)
    config.net.norm = "reference"
    tx = make_optimisers(config).txs["gen"]
    params = {"segmenter": {"bn1": {"scale": jnp.ones(3)}, "main_head": {"kernel": jnp.ones(3)}}}
    updates, _ = tx.update(params, tx.init(params), params)
    assert not updates["segmenter"]["bn1"]["scale"].any()
    np.testing.assert_allclose(
        updates["segmenter"]["main_head"]["kernel"], -0.2 * (1 + 5e-4), rtol=1e-6
    )


def test_repeated_steps_and_one_cycled_adam_go_with_groups():
    group = (("norm", dict(decay=0.0)),)
    many = gen(repeat_backbone=True, groups=group)
    cycled = gen(
        optimiser="adam", schedule="one_cycle", high_momentum=0.95, settings="eps=1e-6",
        schedule_steps=20, groups=group,
    )  # fmt: skip
    for tx in (many, cycled):
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(three_steps(tx)))


@pytest.mark.parametrize("name", groups.optax_names())
def test_every_optimiser_of_optax_moves_the_parameters(name):
    more = {"key": 1} if name == "noisy_sgd" else {}
    tx = groups.from_optax(
        name, schedules.constant(0.01), what="gen", settings=more, multipliers=[("head", 2.0)]
    )
    params = {"head": jnp.array([1.0, -2.0]), "net": jnp.array([0.5, 1.0])}
    before, state = params, tx.init(params)
    for _ in range(2):
        updates, state = tx.update({"head": params["net"], "net": -params["head"]}, state, params)
        params = optax.apply_updates(params, updates)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), params, before)
    assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize(
    "given, message",
    [
        (dict(optimiser="adamx"), r"gen.optimiser='adamx'; choose sgd, adam .*adamw.*lion.*nadamw"),
        (dict(optimiser="sm3"), "gen.optimiser='sm3'; choose"),  # takes no schedule
        (dict(optimiser="chain"), "gen.optimiser='chain'; choose"),
        (
            dict(optimiser="adamw", settings="rho=1"),
            "adamw has no setting 'rho'; it takes b1, b2, ",
        ),
        (dict(optimiser="adamw", settings="mask=1"), "adamw has no setting 'mask'"),
        (dict(settings="nesterov=True"), "sgd has no setting 'nesterov'; it takes none"),
        (dict(optimiser="adam", settings="nesterov=1"), "adam has no setting .*; it takes eps"),
        (dict(optimiser="adamw", settings="eps 1"), "'eps' is not NAME=VALUE"),
        (dict(optimiser="rmsprop"), "weight_decay=0.0005: rmsprop has none; give"),
        (dict(optimiser="adamw", high_momentum=0.95), "high_momentum is for .*optimiser=adam"),
        (dict(optimiser="lion", repeat_backbone=True), "repeat_backbone is for .*optimiser=sgd"),
        (dict(optimiser="adam", betas=()), r"betas=\(\): adam needs two"),
        (dict(schedule="step"), "schedule='step'; choose one of poly, linear, cosine, one_cycle"),
        (dict(warmup_steps=-1), "gen.warmup_steps, warmup_start: a warm-up of -1 steps"),
        (dict(warmup_start=2.0), "from 2.0 times the rate: .* a start in 0..1"),
        (dict(groups=("norm", dict(decay=0.0))), r"groups: 'norm' is not \(EXPRESSION, FACTORS\)"),
        (dict(groups=(("no(rm", dict(decay=0.0)),)), r"'no\(rm' is no regular expression"),
        (
            dict(groups=(("norm", dict(lr=1.0)),)),
            "'norm' has no setting 'lr'; it takes decay, rate",
        ),
        (dict(groups=(("norm", dict(rate=-1.0)),)), "'norm' has rate=-1.0: give 0 or more"),
    ],
)
def test_what_cannot_be_is_told(given, message):
    with pytest.raises(UserError, match=message):
        gen(**given)


def test_a_group_of_no_parameter_is_told():
    tx = gen(groups=(("norm", dict(decay=0.0)), ("transformer", dict(rate=0.1))))
    with pytest.raises(UserError, match="'transformer' matches no parameter; .*block0/kernel"):
        jax.eval_shape(tx.init, single(tree(0)))


def test_groups_come_back_from_config_json_and_the_command_line():
    given = (("norm", dict(decay=0.0)),)
    as_read = ConfigDict(dict(groups=given)).groups
    assert groups.parse("groups", as_read) == (groups.Group("norm", decay=0.0),)


def test_a_sweep_traces_the_numbers_of_an_optimiser_of_optax():
    given = dict(optimiser="adamw", head_multiplier=2.0, groups=(("norm", dict(decay=0.0)),))
    paths = dict(lr=0.2, weight_decay=0.05, head_multiplier=3.0)
    params, gradient = single(tree(0)), single(tree(1))

    def step(values):
        values = {f"optim.gen.{name}": value for name, value in values.items()}
        tx = make_optimisers(with_values(settings(**given, warmup_steps=4), values)).txs["gen"]
        return tx.update(gradient, tx.init(params), params)[0]

    for found, wanted in zip(
        jax.tree.leaves(jax.jit(step)(paths)), jax.tree.leaves(step(paths)), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_the_state_of_groups_survives_a_checkpoint(tmp_path):
    tx = gen(
        optimiser="adamw", groups=(("block0/kernel", dict(rate=0.0)), ("bias$", dict(decay=0.0)))
    )  # fmt: skip
    params = single(tree(0))
    opt = tx.update(single(tree(1)), tx.init(params), params)[1]
    step, key = jnp.asarray(7, jnp.int32), jax.random.PRNGKey(0)
    state = State(step, key, {"gen": params}, {"gen": opt}, {}, {})
    with checkpoint.open_manager(tmp_path) as manager:
        checkpoint.save(manager, state, {"name": "toy"}, None)
        restored = checkpoint.restore_state(manager, jax.eval_shape(lambda: state))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for x, y in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(x, y)


# --- rates ---

WARM = {0: 6.0e-11, 750: 2.94375e-5 * (1 + 1e-6), 1500: 5.775e-5, 20_000: 3.0e-5, 39_999: 1.5e-9}


def test_daformers_rate_warms_up_over_the_falling_one():
    config = settings(
        optimiser="adamw", lr=6e-5, schedule="linear", schedule_steps=40_000, warmup_steps=1500
    )
    schedule = make_optimisers(config).schedules["gen"]
    for step, rate in WARM.items():
        np.testing.assert_allclose(schedule(step), rate, rtol=1e-6)
        np.testing.assert_allclose(jax.jit(schedule)(step), rate, rtol=1e-6)
    assert float(schedule(40_000)) == float(schedule(50_000)) == 0.0


def test_every_schedule_warms_up_and_a_constant_one_stays():
    for name in ("poly", "linear", "cosine", "one_cycle", "constant"):
        given = dict(schedule=name, schedule_steps=100, lr=0.5)
        plain = make_optimisers(settings(**given)).schedules["gen"]
        warm = make_optimisers(settings(**given, warmup_steps=10, warmup_start=0.1))
        for step in (0, 5, 10, 50):
            factor = min(1.0, 0.1 + 0.9 * step / 10)
            np.testing.assert_allclose(warm.schedules["gen"](step), factor * plain(step), rtol=1e-6)
    assert [float(plain(step)) for step in (0, 99, 1000)] == [0.5] * 3


def test_layer_wise_rates_of_a_vit():
    layers = [r"/(patch_embed|pos_embed)", *(rf"/block{i}/" for i in range(12))]
    rates = groups.rates(groups.parse("groups", config_settings.layer_wise(0.9, layers)))
    of = {
        name: optim.multiplier_of(f"segmenter/backbone/{name}/kernel", rates)
        for name in ("patch_embed", "block0", "block1", "block10", "block11", "norm")
    }
    expected = [0.9**13, 0.9**12, 0.9**11, 0.9**2, 0.9, 1.0]
    np.testing.assert_allclose(list(of.values()), expected, rtol=1e-12)


def test_what_is_left_without_decay():
    both, norms = (
        groups.parse("groups", (group,))
        for group in (
            config_settings.NO_DECAY_OF_NORMS_AND_BIASES, config_settings.NO_DECAY_OF_NORMS
        )
    )  # fmt: skip
    for name, by_both, by_norms in (
        ("backbone/block0/norm1/bias", True, True),
        ("backbone/norm/scale", True, True),
        ("backbone/block0/fc1/bias", True, False),
        ("backbone/block0/fc1/kernel", False, False),
    ):
        found = [
            optim.multiplier_of(name, [(g.pattern, g.decay) for g in group]) == 0
            for group in (both, norms)
        ]
        assert found == [by_both, by_norms], name

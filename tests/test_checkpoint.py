"""Checkpoints: bit-equal round trips, and all ways in which a folder can be damaged or not fit."""

import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.engine.method import State
from jaxseg.errors import UserError
from jaxseg.evaluation.selection import CRITERIA
from jaxseg.storage.checkpoints import checkpoint, orbax


def make_state(step: int, seed: int = 0, classes: int = 3) -> State:
    draw = np.random.default_rng(seed)
    seg = {
        "trunk": {"kernel": draw.normal(size=(3, 3, 3, 8)).astype(np.float32)},
        "head": {"kernel": draw.normal(size=(1, 1, 8, classes)).astype(np.float32)},
    }
    params = {
        "gen": {"seg": seg},
        "disc": {"main": {"kernel": draw.normal(size=(4, 4)).astype(jnp.bfloat16)}},
    }
    decay = optax.masked(optax.add_decayed_weights(1e-4), lambda p: jax.tree.map(lambda x: True, p))
    rate = optax.polynomial_schedule(1e-2, 0, 0.9, 100)
    heads = jax.tree_util.tree_map_with_path(lambda path, _: path[1].key, {"seg": seg})
    gen = optax.chain(
        decay,
        optax.trace(0.9),
        optax.partition({"trunk": optax.scale_by_schedule(rate), "head": optax.scale(-1.0)}, heads),
    )
    txs = {"gen": gen, "disc": optax.adam(1e-4, b1=0.9, b2=0.99)}
    opt = {}
    for player, tx in txs.items():
        gradients = jax.tree.map(lambda p: jnp.asarray(p) * 0.3, params[player])
        _, opt[player] = tx.update(gradients, tx.init(params[player]), params[player])
    stats = {"seg": {"mean": draw.normal(size=8).astype(np.float32)}, "main": {}}
    memory = {"seen": np.asarray(True), "empty": np.zeros((0, 4), np.float32)}
    key = jax.random.PRNGKey(seed)
    state = State(jnp.asarray(step, jnp.int32), key, params, opt, stats, memory)
    return jax.tree.map(np.asarray, state)


def write(folder, steps, metrics_of=None, **options):
    with checkpoint.open_manager(folder, **options) as manager:
        for step in steps:
            metrics = (metrics_of or {}).get(step)
            checkpoint.save(manager, make_state(step, seed=step), {"name": "toy"}, metrics)


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())


def flip_bytes(folder):
    """Flips one bit in the middle of each file of arrays (some are copies that are never read)."""
    for path in folder.rglob("d/*"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def test_state_comes_back_bit_for_bit_with_its_types(tmp_path):
    state = make_state(7)
    with checkpoint.open_manager(tmp_path) as manager:
        checkpoint.save(manager, state, {"lr": 0.1, "size": (1, 2)}, {"miou": 0.5, "iou": {}})
    with checkpoint.open_manager(tmp_path) as manager:
        assert manager.latest_step() == 7
        restored = checkpoint.restore_state(
            manager, jax.eval_shape(lambda s: s, make_state(0, seed=9))
        )
    assert_same(restored, state)


def test_model_restores_without_template_and_without_optimiser(tmp_path):
    state = make_state(4)
    write(tmp_path, [4])
    shutil.rmtree(tmp_path / "00000004" / "train")
    with checkpoint.open_manager(tmp_path, read_only=True) as manager:
        step, model, config = checkpoint.restore_model(manager, "last")
        template = {"params": state.params, "stats": state.stats, "memory": state.memory}
        _, same, _ = checkpoint.restore_model(manager, 4, template)
    state = make_state(4, seed=4)
    assert step == 4 and config == {"name": "toy"}
    assert_same(model["params"], state.params)
    assert model["stats"]["main"] == {}
    assert_same(same["memory"], state.memory)


def test_saving_does_not_see_later_changes(tmp_path):
    state = make_state(1)
    before = state.params["gen"]["seg"]["trunk"]["kernel"].copy()
    state = jax.tree.map(np.array, state)
    with checkpoint.open_manager(tmp_path) as manager:
        checkpoint.save(manager, state, {})
        state.params["gen"]["seg"]["trunk"]["kernel"][:] = 0
    with checkpoint.open_manager(tmp_path) as manager:
        restored = checkpoint.restore_state(manager, state)
    np.testing.assert_array_equal(restored.params["gen"]["seg"]["trunk"]["kernel"], before)


def test_keeps_the_last_and_the_best(tmp_path, capsys):
    miou = {1: {"miou": 0.2}, 2: {"miou": 0.6}, 4: {"miou": 0.3}, 5: {"miou": float("nan")}}
    write(tmp_path, [1, 2, 3, 4, 5], miou)
    assert sorted(int(p.name) for p in tmp_path.iterdir()) == [2, 4, 5]
    with checkpoint.open_manager(tmp_path, read_only=True) as manager:
        assert checkpoint.restore_model(manager, "best")[0] == 2
        assert checkpoint.restore_model(manager, "last")[0] == 5
        assert checkpoint.restore_model(manager, 4)[0] == 4
        with pytest.raises(UserError, match="step 3 .*holds 2, 4, 5"):
            checkpoint.restore_model(manager, 3)
    assert capsys.readouterr() == ("", "")


def test_best_without_any_evaluation_is_the_last(tmp_path):
    write(tmp_path, [1, 2])
    told = []
    with checkpoint.open_manager(tmp_path, read_only=True) as manager:
        assert checkpoint.restore_model(manager, announce=told.append)[0] == 2
    assert len(told) == 1 and "using the last, 2" in told[0]


SCORES = {
    1: {"miou": 0.5, "entropy": 0.2, "neighbourhood_density": 9},
    2: {"miou": 0.1, "entropy": 0.3, "neighbourhood_density": 2.0},
    3: {"miou": 0.2, "entropy": 0.6, "neighbourhood_density": 3.0, "agreement": 0.7},
    4: {"miou": 0.3, "entropy": 0.4, "neighbourhood_density": 1.0, "agreement": 0.7},
    5: {"miou": None, "entropy": 0.5, "agreement": float("nan")},
    6: {"miou": 0.4},
}


def steps_in(folder):
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


@pytest.mark.parametrize(
    "since, first_steps, chosen",
    [
        (0, [], (1, 4, 1)),  # by entropy, agreement (of equals the later) and density
        (2, [], (2, 4, 3)),
        (2, [1, 2, 3], (2, 4, 3)),  # the run is resumed in between
        (4, [], (4, 4, 4)),
    ],
)
def test_what_each_criterion_chooses_stays(tmp_path, since, first_steps, chosen):
    options = dict(keep=1, criteria=CRITERIA, since=since)
    write(tmp_path, first_steps, SCORES, **options)
    write(tmp_path, range(len(first_steps) + 1, 8), SCORES, **options)
    assert steps_in(tmp_path) == sorted({1, *chosen, 7})
    with checkpoint.open_manager(tmp_path, read_only=True, **options) as manager:
        names = ("entropy", "agreement", "neighbourhood_density")
        found = tuple(checkpoint.restore_model(manager, name)[0] for name in names)
        assert found == chosen and checkpoint.restore_model(manager, "best")[0] == 1
        with pytest.raises(UserError, match=r"no checkpoint in .* has source_miou.* best, last or"):
            checkpoint.restore_model(manager, "source_miou")
    # Without the criteria the next save lets them go.
    write(tmp_path, [8], keep=1)
    assert steps_in(tmp_path) == [1, 8]


def test_criteria_without_any_target_labels(tmp_path):
    scores = {s: {"miou": None, "entropy": e} for s, e in ((1, 0.1), (2, 0.3), (3, 0.2))}
    write(tmp_path, [1, 2, 3, 4], scores, keep=1, criteria=CRITERIA, since=2)
    assert steps_in(tmp_path) == [3, 4]
    told = []
    with checkpoint.open_manager(tmp_path, read_only=True, criteria=CRITERIA, since=2) as manager:
        assert checkpoint.restore_model(manager, "entropy", announce=told.append)[0] == 3
        assert not told
        assert checkpoint.restore_model(manager, "best", announce=told.append)[0] == 4
        assert "using the last, 4" in told[0]
    with checkpoint.open_manager(tmp_path, read_only=True, criteria=CRITERIA, since=4) as manager:
        with pytest.raises(UserError, match="has entropy from step 4, the end of the warm-up, on"):
            checkpoint.restore_model(manager, "entropy")


def test_a_damaged_choice_is_passed_over_for_the_next_of_the_same_criterion(tmp_path):
    write(tmp_path, range(1, 6), SCORES, keep=5, criteria=CRITERIA)
    flip_bytes(tmp_path / "00000001" / "model")
    told = []
    with checkpoint.open_manager(tmp_path, read_only=True, criteria=CRITERIA) as manager:
        found, model, _ = checkpoint.restore_model(manager, "entropy", announce=told.append)
        assert found == 2 and "checkpoint 1 is damaged" in told[0] and "step 2" in told[0]
        assert_same(model["params"], make_state(2, seed=2).params)
        flip_bytes(tmp_path / "00000003" / "model")
        flip_bytes(tmp_path / "00000004" / "model")
        with pytest.raises(UserError, match=r"checkpoint 3 .* no other can stand in .*\[5, 2, 1\]"):
            checkpoint.restore_model(manager, "agreement", announce=told.append)


@pytest.mark.parametrize("text", ['{"miou": 0.', "\0", '{"miou": 0.7}'])
def test_damaged_metrics_do_not_choose(tmp_path, text):
    write(tmp_path, [1, 2], {1: {"miou": 0.3}, 2: {"miou": 0.2}})
    (tmp_path / "00000002" / "metrics" / "metrics").write_text(text)
    with checkpoint.open_manager(tmp_path) as manager:
        assert checkpoint.restore_model(manager, announce=lambda line: None)[0] == 1


@pytest.mark.parametrize("damage", ["flip", "empty", "settings", "truncate"])
def test_a_damaged_step_is_passed_over(tmp_path, damage):
    write(tmp_path, [1, 2])
    last = tmp_path / "00000002"
    if damage == "flip":
        flip_bytes(last / "model")
    elif damage == "settings":
        path = last / "config" / "metadata"
        path.write_text(path.read_text().replace("toy", "tox"))
    elif damage == "truncate":
        for path in (last / "train").rglob("*"):
            if path.is_file():
                path.write_bytes(b"")
    else:
        shutil.rmtree(last)
        last.mkdir()
    told = []
    with checkpoint.open_manager(tmp_path) as manager:
        restored = checkpoint.restore_state(manager, make_state(0), announce=told.append)
        assert len(told) == 1 and "checkpoint 2 is damaged" in told[0] and "step 1" in told[0]
        assert_same(restored, make_state(1, seed=1))
        with pytest.raises(UserError, match="damaged.*choose another"):
            checkpoint.restore_state(manager, make_state(0), step=2)
        # The run that resumed from 1 comes past 2 again: the damaged one is kept aside.
        checkpoint.save(manager, make_state(2, seed=2), {})
    names = ["00000001", "00000002", "00000002.damaged"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    with checkpoint.open_manager(tmp_path) as manager:
        assert manager.all_steps() == [1, 2]
        assert_same(checkpoint.restore_state(manager, make_state(0)), make_state(2, seed=2))


def test_damaged_steps_are_kept_aside_whatever_the_next_step_is(tmp_path):
    write(tmp_path, [1, 4, 6], keep=3)
    (tmp_path / "00000004.damaged").mkdir()
    for step in (4, 6):
        flip_bytes(tmp_path / f"{step:08d}" / "model")
    with checkpoint.open_manager(tmp_path, keep=3) as manager:
        checkpoint.restore_state(manager, make_state(0), announce=lambda line: None)
        for step in (5, 7):
            checkpoint.save(manager, make_state(step), {})
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "00000001", "00000004.damaged", "00000004.damaged1", "00000005", "00000006.damaged",
        "00000007",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied", "metadata"),
        OSError(5, "Input/output error", "metadata"),
        ValueError('PERMISSION_DENIED: Error opening "zarr" driver\nmore'),
    ],
)
def test_a_step_that_cannot_be_read_now_is_not_damaged(tmp_path, monkeypatch, error):
    write(tmp_path, [1, 2])

    def refuse(*_, **__):
        raise error

    with checkpoint.open_manager(tmp_path) as manager:
        monkeypatch.setattr(manager, "restore", refuse)
        with pytest.raises(UserError, match=f"cannot read checkpoint 2 in {tmp_path} .") as caught:
            checkpoint.restore_state(manager, make_state(0))
        assert "\n" not in str(caught.value) and not manager.damaged_steps


def test_a_folder_that_may_not_be_entered_is_told_from_a_missing_one(tmp_path, monkeypatch):
    missing = FileNotFoundError("Metadata file (named _METADATA) does not exist")
    assert orbax.hindrance(missing, tmp_path) is None
    listing = os.scandir

    def refuse(path):
        if str(path).endswith("model"):
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    (tmp_path / "model").mkdir()
    monkeypatch.setattr(os, "scandir", refuse)
    assert "denied" in orbax.hindrance(missing, tmp_path)


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="cannot use the checkpoints in .*run/checkpoints"):
        checkpoint.open_manager(tmp_path / "run" / "checkpoints")


def test_saving_an_earlier_step_drops_the_abandoned_later_ones(tmp_path):
    write(tmp_path, [1, 4, 6], keep=3)
    write(tmp_path, [3], keep=3)
    assert sorted(int(p.name) for p in tmp_path.iterdir()) == [1, 3]


def test_nothing_to_restore_names_the_folder(tmp_path):
    with pytest.raises(UserError, match=f"no checkpoint in {tmp_path}.*--mode=train"):
        checkpoint.open_manager(tmp_path, read_only=True)
    with checkpoint.open_manager(tmp_path / "new") as manager:
        assert manager.latest_step() is None
        with pytest.raises(UserError, match="no checkpoint"):
            checkpoint.restore_model(manager)


def test_everything_damaged_ends_in_one_line(tmp_path):
    (tmp_path / "00000003").mkdir()
    with checkpoint.open_manager(tmp_path) as manager:
        with pytest.raises(UserError, match="remove the folder to start afresh"):
            checkpoint.restore_state(manager, make_state(0))


def test_another_network_is_named_by_its_first_difference(tmp_path):
    write(tmp_path, [1])
    with checkpoint.open_manager(tmp_path) as manager:
        with pytest.raises(UserError) as caught:
            checkpoint.restore_state(manager, make_state(0, classes=5))
        text = str(caught.value)
        assert "params/gen/seg/head/kernel" in text and "\n" not in text
        assert "float32[1, 1, 8, 3]" in text and "float32[1, 1, 8, 5]" in text
        assert "(toy)" in text and "--workdir" in text
        halved = jax.tree.map(
            lambda x: x.astype(jnp.bfloat16) if x.dtype == np.float32 else x, make_state(0)
        )
        with pytest.raises(UserError, match=r"is float32\[.*wanted bfloat16"):
            checkpoint.restore_state(manager, halved)
        with pytest.raises(UserError, match="has no memory/more"):
            checkpoint.restore_state(manager, make_state(0)._replace(memory={"more": np.zeros(2)}))
        with pytest.raises(UserError, match="has memory/.*not wanted"):
            checkpoint.restore_state(manager, make_state(0)._replace(memory={}))

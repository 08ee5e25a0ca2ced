"""Training stops at numbers that are not finite, says where, and can repeat the step."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.small import small_config

from jaxseg.data import codec
from jaxseg.engine import guard, programs
from jaxseg.engine.method import State
from jaxseg.errors import UserError
from jaxseg.evaluation import selection
from jaxseg.experiment import batches
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import abstract_state
from jaxseg.run import bad_steps, train
from jaxseg.storage import logs
from jaxseg.storage.checkpoints import checkpoint, tree


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run whose learning rate is absurd: (config, folder, message)."""
    folder = tmp_path_factory.mktemp("stopped")
    config = small_config("source_only", folder / "records")
    config.optim.gen.lr = 1e30
    for side in ("source", "target"):
        config.data[side].options.counts.update(dict(train=3, val=1))
    config.eval.source_images = 0
    config.train.update(
        dict(
            steps=6, warmup_steps=0, devices=1, eval_every=0, save_every=1, skip_bad_steps=1, keep=9
        )
    )
    with pytest.MonkeyPatch.context() as patched, pytest.raises(UserError) as caught:
        quickly_compiled(patched)
        train.run(config, str(folder / "run"))
    return config, folder / "run", str(caught.value)


def quickly_compiled(patched):
    """Few steps are taken: compiling would take most of the time."""
    options = programs.KEEP_BARRIERS | {"xla_backend_optimization_level": 0}
    patched.setattr(programs, "KEEP_BARRIERS", options)


def state_of(config, folder, step=None):
    template = abstract_state(config, make_method(config), make_optimisers(config))
    with checkpoint.open_manager(folder / "checkpoints", read_only=True) as manager:
        return checkpoint.restore_state(manager, template, step, announce=pytest.fail)


def test_it_stops_at_the_first_one_too_many_and_says_where(stopped):
    _, folder, said = stopped
    assert said.startswith("step 3: ") and "\n" not in said and "loss/gen" in said
    assert "segmentation/main" in said and "skip_bad_steps" in said
    assert f"--workdir={folder}/bad_step_00000003 repeats it" in said
    lines = logs.read(folder)
    told = {line["step"]: line["text"] for line in lines if line["kind"] == "warning"}
    assert "passed over (1 of 1 allowed)" in told[2] and "loss/gen" in told[2] and 3 in told
    norms = [line["grad_norm/gen"] for line in lines if line["kind"] == "train"]
    assert norms[0] > 0 and len(norms) == 2


def test_no_state_that_is_not_finite_is_saved(stopped):
    config, folder, _ = stopped
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["00000001", "00000002"]
    one, two = (state_of(config, folder, step) for step in (1, 2))
    assert tree.not_finite(tree.by_path({"s": list(two)})[0]) is None
    assert (int(one.skipped), int(two.skipped)) == (0, 1)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(two.params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_dump_repeats_the_step_and_names_its_images(stopped, capsys, monkeypatch):
    config, folder, said = stopped
    dump = folder / "bad_step_00000003"
    facts = json.loads((dump / bad_steps.FILE).read_text())
    for a, b in zip(
        jax.tree.leaves(state_of(config, dump)), jax.tree.leaves(state_of(config, folder)),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(a, b)
    # The images of this step, as they are drawn for training, are those of the records named.
    stream = batches.train_batches(config, ("source_image",), 2)
    drawn = next(stream)["source_image"]
    stream.close()
    opened = batches.open_records(config, config.data.source, "train")
    stored = {r["id"]: codec.decode_image(r["image"]) for r in map(opened.__getitem__, range(3))}
    assert len(facts["images"]["source"]) == len(drawn) == 2
    for name, image in zip(facts["images"]["source"], drawn, strict=True):
        assert any(np.array_equal(image, way) for way in (stored[name], stored[name][:, ::-1]))
    # Trained on from, the folder stops at the same step for the same reasons.
    quickly_compiled(monkeypatch)
    with pytest.raises(UserError) as again:
        train.run(config, str(dump))
    assert str(again.value).partition(";")[0] == said.partition(";")[0]
    twice = json.loads((dump / "bad_step_00000003" / bad_steps.FILE).read_text())
    assert twice == facts
    assert "resuming from step 2" in capsys.readouterr().out


def test_members_of_a_sweep_are_looked_at_one_by_one():
    """Stacked or listed, late by a few steps, with each member's own count."""
    stacked = [{guard.SKIPPED: jnp.int32(counts)} for counts in ([0, 0], [0, 1], [0, 2], [1, 2])]
    listed = [[{guard.SKIPPED: n} for n in each[guard.SKIPPED]] for each in stacked]
    for steps in (stacked, listed):
        pending = bad_steps.Pending(1, late=2)
        found = []
        for step, metrics in enumerate(steps, 5):
            pending.add(step, metrics)
            found.append(pending.found(wait=False))
        assert found == [None] * 4
        assert pending.found(wait=True)[:2] == (7, 1)
        pending = bad_steps.Pending(0, late=2)
        for step, metrics in enumerate(steps, 5):
            pending.add(step, metrics)
            found.append(pending.found(wait=False))
        assert found[-2:] == [None, (6, 1, steps[1])]


def test_parameters_that_an_optimiser_spoilt_are_named(tmp_path):
    """There is no state to repeat the step from."""
    spoilt = _state(7, {"w": np.float32([1.0, np.inf])})
    trained = types.SimpleNamespace(
        members=[types.SimpleNamespace(name="member_00", config=None)], swept=True,
        folders=[str(tmp_path)],
    )  # fmt: skip
    with logs.open_logs(tmp_path, announce=lambda line: None) as log:
        stop = bad_steps.make_stop(trained, [log])
        metrics = {"loss/gen": np.float32(np.nan), "guard/stats": np.float32(0)}
        with pytest.raises(UserError, match="step 8: member_00: loss/gen is not finite") as caught:
            stop([spoilt], 8, 0, [metrics])
    assert "params/gen/net/w was not before" in str(caught.value)
    assert not list(tmp_path.glob("bad_step*")) and logs.read(tmp_path)[0]["step"] == 8


def test_a_run_may_be_resumed_with_fewer_updates_allowed(stopped):
    config, folder, _ = stopped
    (state,) = bad_steps.allowed([state_of(config, folder)], 0)
    assert state.skipped == 0 and state.skipped.dtype == np.int32


def test_dead_networks_are_never_chosen(tmp_path, monkeypatch):
    """Neither in a log nor among checkpoints, as earlier versions left them."""
    lines = [
        {"step": 1, "miou": 0.2, "entropy": 0.4, "agreement": None, "source_miou": 0.3},
        {"step": 2, "miou": 0.1, "entropy": 0.5, "agreement": 0.6, "source_miou": 0.2},
        {"step": 3, "miou": 0.9, "entropy": None, "agreement": 1.0, "source_miou": 0.9},
    ]
    chosen = selection.compare(lines)["criteria"]
    assert {key: entry["step"] for key, entry in chosen.items()} == {
        "source_miou": 1, "entropy": 1, "agreement": 2, "step": 2, "miou": 1,
    }  # fmt: skip
    state = {"w": np.float32([1.0, 2.0])}
    alive = _state(1, state)
    dead = _state(3, {"w": np.float32([1.0, np.nan])})
    with checkpoint.open_manager(tmp_path, criteria=selection.CRITERIA) as manager:
        checkpoint.save(manager, alive, {}, lines[0] | {"agreement": 0.5})
        with pytest.raises(UserError, match=r"params/gen/net/w is not finite at step 3"):
            checkpoint.save(manager, dead, {}, lines[2])
        with monkeypatch.context() as patched:
            patched.setattr(checkpoint, "not_finite", lambda leaves: None)
            checkpoint.save(manager, dead, {}, lines[2])
            manager.wait_until_finished()
        for wanted in ("best", "last", "agreement", "source_miou"):
            told = []
            assert checkpoint.restore_model(manager, wanted, announce=told.append)[0] == 1
            assert "params/gen/net/w is not finite" in told[0]
        with pytest.raises(UserError, match="is not finite"):
            checkpoint.restore_model(manager, 3)


def test_checkpoints_without_the_count_are_restored(tmp_path, monkeypatch):
    state = _state(4, {"w": np.float32([1.0])})
    with checkpoint.open_manager(tmp_path) as manager:
        with monkeypatch.context() as patched:
            patched.setattr(checkpoint, "TRAIN_FIELDS", ("key", "opt"))
            checkpoint.save(manager, state, {})
            manager.wait_until_finished()
        found = checkpoint.restore_state(manager, state)
    assert int(found.step) == 4 and found.skipped == 0


def _state(step, net):
    params = {"gen": {"net": net}}
    return State(np.int32(step), np.zeros(2, np.uint32), params, {"gen": {}}, {}, {})

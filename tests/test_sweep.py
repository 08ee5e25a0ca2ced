"""Members of a sweep against separate runs; settings that can be swept; resuming; files."""

import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest
from kit import small
from kit.small import small_config

from jaxseg.engine import programs
from jaxseg.errors import UserError
from jaxseg.experiment import networks
from jaxseg.experiment.finished import Wanted
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import abstract_state, first_states
from jaxseg.run import evaluate, sweep, sweep_members, sweep_tables, train
from jaxseg.storage import logs
from jaxseg.storage.checkpoints import checkpoint


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return tmp_path_factory.mktemp("records")


@pytest.fixture
def config(records):
    config = small_config("advent", records)
    config.net.aux = False
    config.optim.gen.lr = 0.01
    config.optim.disc.update(dict(optimiser="sgd", lr=0.02))
    return config


def linear(monkeypatch):
    """Networks that compile in no time, for images of three channels and 19 classes."""
    monkeypatch.setattr(small, "C", 3)
    monkeypatch.setattr(small, "K", 19)
    monkeypatch.setattr(networks, "segmenter", lambda _: small.linear_segmenter())
    monkeypatch.setattr(networks, "discriminator", lambda _: small.linear_discriminator())


def difference(a, b):
    """The largest difference, as a share of the largest value."""
    return np.abs(np.asarray(a, np.float64) - b).max() / (np.abs(b).max() + 1e-6)


def close(ours, theirs, share=1e-5):
    """Every leaf within a share of its largest value."""
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.shape(a) == np.shape(b) and difference(a, b) <= share


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize(
    "over",
    [
        "method.settings.adversarial_weights.main=0.001,20 optim.gen.lr=0.1,0.02",
        "seed=1,2 optim.disc.lr=0.02 optim.gen.momentum=0.9,0.5",
    ],
)
def test_a_member_is_its_run_alone(config, monkeypatch, devices, over):
    linear(monkeypatch)
    config.sweep.over = over
    members = sweep_members.members(config)
    used, own = jax.devices()[:devices], sweep_members.own_batches(members)
    assert own == ("seed" in over)
    method, players = make_method(config), make_optimisers(config)
    seeds = [m.config.seed for m in members]
    states = jax.device_get(first_states(config, method, players, seeds))
    phases = ("warmup", "warmup", "full", "full")
    data = [list(small.linear_batches(len(phases), 2, seed=i * own)) for i in range(len(members))]

    def trained(update, state, data):
        state, shown = programs.place(state, used), []
        for phase, batch in zip(phases, data, strict=True):
            cut = {k: x.reshape(devices, -1, *x.shape[1:]) for k, x in batch.items()}
            state, metrics = update[phase](state, cut)
            jax.block_until_ready(state)
            shown.append(metrics)
        return jax.device_get((state, shown))

    alone = []
    for i, member in enumerate(members):
        method, players = make_method(member.config), make_optimisers(member.config)
        update = {
            phase: programs.pmapped_update(
                method._replace(losses=losses), players.txs, devices=used
            )
            for phase, losses in (("warmup", method.warmup), ("full", method.losses))
        }
        alone.append(trained(update, states[i], data[i]))
    ends = [jax.tree.leaves(state.params) for state, _ in alone]
    assert all(max(map(difference, ends[0], end)) > 1e-3 for end in ends[1:])

    stacked = data[0]
    if own:
        stacked = [
            {k: np.stack([b[k] for b in bs], 1) for k in bs[0]} for bs in zip(*data, strict=True)
        ]
    for how in ("vmap", "map", "each") if devices == 2 else ("vmap",):
        update = {p: sweep.members_update(members, p, used, how) for p in ("warmup", "full")}
        state, shown = trained(update, sweep.joined(states, how), stacked)
        for i, (own_state, own_shown) in enumerate(alone):
            close(sweep.one(state, i), own_state)
            close([sweep.one(metrics, i) for metrics in shown], own_shown, 1e-4)


def leaves(config, folder, step):
    method, players = make_method(config), make_optimisers(config)
    template = abstract_state(config, method, players)
    with checkpoint.open_manager(folder / "checkpoints", read_only=True) as manager:
        return jax.tree.leaves(checkpoint.restore_state(manager, template, step))


def interrupt_after(step, monkeypatch):
    """SIGTERM arrives while the update of `step` runs."""
    original = sweep.members_update

    def interrupted(*args):
        update = original(*args)

        def wrapped(state, batch):
            if int(state.step[0]) == step - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return update(state, batch)

        return wrapped

    monkeypatch.setattr(sweep, "members_update", interrupted)


def test_a_sweep_of_real_networks(config, tmp_path, capsys, monkeypatch):
    config.sweep.update(dict(over="seed=0,3 optim.gen.lr=0.004", how="vmap"))
    config.train.update(dict(keep=1, pictures=1))
    whole, parts, alone = (tmp_path / name for name in ("whole", "parts", "alone"))
    assert train.run(config, str(whole)) == 0
    printed = capsys.readouterr().out
    assert (
        (whole / "comparison.html").exists()
        and "2 members" in printed
        and "with target labels" in printed
        and "over seeds" in printed
    )
    members = sweep_members.members(config)
    for member in members:
        folder = whole / member.name
        for name in ("config.json", "metrics.jsonl", "results.json", "report.html"):
            assert (folder / name).exists(), name
        saved = json.loads((folder / "config.json").read_text())
        assert saved["seed"] == member.values["seed"] and not saved["sweep"]["over"]
        assert saved["optim"]["gen"]["lr"] == member.values["optim.gen.lr"]

    # The last member is what the same settings give alone.
    last, folder = members[-1].config, whole / members[-1].name
    assert train.run(last, str(alone)) == 0
    close(leaves(last, folder, 4), leaves(last, alone, 4), 1e-4)
    ours, theirs = logs.read(folder), logs.read(alone)
    assert [(a["kind"], a["step"]) for a in ours] == [(b["kind"], b["step"]) for b in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys() or {*a} ^ {*b} == {"images_per_second"}
        for key in a.keys() - {"images_per_second", "input_wait", "kind", "split"}:
            if isinstance(a[key], float):
                assert a[key] == pytest.approx(b[key], rel=2e-3, abs=1e-4), key
    evaluated = evaluate.evaluate(last, str(folder), Wanted("last"))
    assert evaluated["miou"] == logs.evaluations(folder)[-1]["miou"]

    # Ctrl-C during step 3; then one member's checkpoint of step 3 is lost: all go on from step 2.
    config.train.save_every = 1
    with monkeypatch.context() as patched:
        interrupt_after(3, patched)
        assert train.run(config, str(parts)) == 130
    shutil.rmtree(parts / "member_01" / "checkpoints" / f"{3:08d}")
    assert train.run(config, str(parts)) == 0
    assert "resuming from step 2" in capsys.readouterr().out
    for member in members:
        assert logs.evaluations(parts / member.name) == logs.evaluations(whole / member.name)
        pair = (leaves(member.config, folder / member.name, 4) for folder in (whole, parts))
        for a, b in zip(*pair, strict=True):
            np.testing.assert_array_equal(a, b)

    # What is reported is the members' own.
    found = json.loads((whole / "sweep.json").read_text())
    scores = [logs.evaluations(whole / m.name)[-1]["miou"] for m in members]
    assert [row["last"]["miou"] for row in found["members"]] == scores
    assert found["summary"]["last_miou"]["mean"] == pytest.approx(np.mean(scores))
    assert found["summary"]["last_miou"]["std"] == pytest.approx(np.std(scores, ddof=1))
    assert found["best"]["miou"] == max(scores)
    assert [group["values"] for group in found["groups"]] == [{"optim.gen.lr": 0.004}]
    assert set(found["choices"]) >= {"entropy", "source_miou"}

    # Another sweep or a single run has no place there.
    config.sweep.over = "seed=0,1"
    with pytest.raises(UserError, match="holds a sweep with config.sweep.over='seed=0,3 .*--workd"):
        train.run(config, str(whole))
    with pytest.raises(UserError, match="holds a single run.*another --workdir"):
        sweep_tables.compare(str(alone), "seed=0,1")


@pytest.mark.parametrize(
    "over, message",
    [
        (" ", "config.sweep.over names no setting"),
        ("seed", "'seed' is not SETTING=VALUE,VALUE"),
        ("seed=0, 1", "'seed=0,' is not SETTING=VALUE,VALUE without blanks"),
        ("seed=0,1 seed=2", "seed is given twice"),
        ("seed=0,0", "a value is given twice"),
        ("seed=0,0.5", "give whole numbers"),
        ("optim.gen.lr=a,b", "give numbers"),
        ("net.dropout=0.1,0.2", "config.net.dropout cannot be swept; what can be is seed"),
        ("optim.gen.ls=0.1", "is no setting that is a number; did you mean optim.gen.lr"),
        ("optim.gen.schedule=1,2", "config.optim.gen.schedule is no setting that is a number"),
    ],
)
def test_what_cannot_be_read_is_named(config, over, message):
    config.sweep.over = over
    with pytest.raises(UserError, match=message):
        sweep_members.members(config)


def test_a_run_alone_is_the_only_member(config):
    (member,) = sweep_members.members(config)
    assert member.config is config and sweep_members.folder("work", member) == "work"
    config.sweep.over = "seed=3"  # nothing is traced, and nobody else needs other batches
    (member,) = members = sweep_members.members(config)
    assert sweep_members.folder("work", member) == os.path.join("work", "member_00")
    assert not sweep_members.own_batches(members) and sweep.how(config, members) == "alone"
    config.sweep.over = "optim.gen.lr=0.1"
    assert sweep.how(config, sweep_members.members(config)) != "alone"


def test_an_unknown_way_is_refused(config):
    config.sweep.update(dict(over="seed=0,1", how="pmap"))
    with pytest.raises(UserError, match="config.sweep.how='pmap': choose one of 'vmap', 'map'"):
        sweep_members.members(config)


@pytest.mark.parametrize(
    "name, over, message",
    [
        ("advent", "optim.gen.lr=1,2 optim.gen.clip=1,2", "config.optim.gen.clip decides what"),
        ("advent", "optim.gen.schedule_steps=8,9", "optim.gen.schedule_steps decides what is"),
        ("advent_prior", "method.settings.class_prior.weight=0,1", "class_prior.weight decides"),
        ("minent", "optim.disc.lr=1,2", "config.optim.disc.lr changes nothing in minent_streets"),
        ("advent", "optim.disc.momentum=0.1,0.2", "optim.disc.momentum changes nothing in advent"),
    ],
)
def test_what_no_program_can_hold_is_named(records, monkeypatch, name, over, message):
    linear(monkeypatch)
    config = small_config(name, records)
    config.sweep.over = over
    with pytest.raises(UserError, match=message):
        sweep_members.check_traceable(sweep_members.members(config))


def test_class_weights_are_not_counted_for_the_check(config, monkeypatch):
    linear(monkeypatch)
    config.method.settings.update(dict(weighted=0.5, class_weights=("median",)))
    config.sweep.over = "method.settings.adversarial_weights.main=0.001,20"
    sweep_members.check_traceable(sweep_members.members(config))


def test_augmentation_is_swept_by_batches_of_the_members_own(config):
    config.sweep.over = "augment.source.flip=0,1"
    members = sweep_members.members(config)
    assert sweep_members.traced(members) == {}
    stream = sweep.MemberBatches(members, ("source_image", "source_label"), 1)
    batch = next(stream)
    stream.close()
    assert batch["source_image"].shape == (2, 2, 32, 64, 3)
    np.testing.assert_array_equal(batch["source_image"][:, 0], batch["source_image"][:, 1, :, ::-1])


def test_products_and_spreads():
    rows = [{"values": {"seed": s, "x": x}, "last": {"miou": m}, "best": {"miou": m}}
            for s, x, m in ((0, 1, 0.2), (0, 2, 0.3), (1, 1, 0.4), (1, 2, None))]  # fmt: skip
    one, two = sweep_tables._groups(rows)
    assert one["last_miou"]["mean"] == pytest.approx(0.3)
    assert one["last_miou"]["std"] == pytest.approx(0.02**0.5)
    assert two["last_miou"] == {"mean": 0.3, "std": None} and two["members"] == 2
    assert sweep_tables.plus_minus(one["last_miou"]) == "30.00 ± 14.14"
    assert sweep_tables.mean_and_std([None]) == {"mean": None, "std": None}
    assert sweep_tables.plus_minus({"mean": None, "std": None}) == "–"

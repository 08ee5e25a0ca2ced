"""Weight files: PyTorch's two formats written by hand here, refusals, names, merging."""

import os

import jax
import numpy as np
import pytest
from kit import torch_files
from kit.torch_files import WRITERS, Stored

from jaxseg.errors import UserError
from jaxseg.models.backbones.resnet import Sizes
from jaxseg.models.network import network
from jaxseg.models.segmenters.deeplabv2 import DeepLabV2
from jaxseg.storage.weights import files, merge, pth, rename

TINY = Sizes((1, 2, 1, 1), widths=(2, 3, 2, 3), stem=4)


@pytest.fixture
def torch_names(monkeypatch):
    return torch_files.stand_in(monkeypatch)


@pytest.mark.parametrize("container", WRITERS)
def test_pth(tmp_path, torch_names, container):
    a = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    stored = [
        Stored(a, torch_names, "0"),
        Stored(np.arange(6, dtype=np.float16), torch_names, "1", view=(1, (2, 2), (1, 2))),
        Stored(np.array([7]), torch_names, "2", view=(0, (), ())),
    ]
    names = ("module.a.weight", "module.b", "module.bn.num_batches_tracked")
    tree = {
        "epoch": 3,
        "state_dict": dict(zip(names, stored, strict=True)),
        "list": [1, (2.5, "x")],
    }
    path = tmp_path / "w.pth"
    WRITERS[container](path, tree, stored)
    raw = pth.read(path)
    assert raw["epoch"] == 3 and raw["list"] == [1, (2.5, "x")]
    assert raw["state_dict"][names[2]] == 7
    tensors = files.load(path)
    assert set(tensors) == {"a.weight", "b"}
    np.testing.assert_array_equal(tensors["a.weight"], a)
    np.testing.assert_array_equal(tensors["b"], np.array([[1, 3], [2, 4]], np.float16))


@pytest.mark.parametrize("container", WRITERS)
def test_pickled_code_is_refused(tmp_path, container):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    path = tmp_path / "evil.pth"
    WRITERS[container](path, {"state_dict": {"a": Evil()}}, [])
    with pytest.raises(UserError, match="evil.pth.*refused.*mkdir"):
        files.load(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("container", WRITERS)
@pytest.mark.parametrize(
    "view", [(0, (5,), (1,)), (3, (2,), (1,)), (-1, (2,), (1,)), (0, (2, 2), (1, -1)),
             (0, (10**9,), (0,)), (0, (2,), (1, 1))]
)  # fmt: skip
def test_tensors_stay_inside_their_storage(tmp_path, torch_names, container, view):
    stored = [Stored(np.arange(4, dtype=np.float32), torch_names, "0", view=view)]
    path = tmp_path / "w.pth"
    WRITERS[container](path, {"a": stored[0]}, stored)
    with pytest.raises(UserError, match="w.pth.*(outside|impossible)"):
        files.load(path)


def test_damaged_and_foreign_files_name_themselves(tmp_path, torch_names):
    stored = [Stored(np.arange(100, dtype=np.float32), torch_names, "0")]
    for container, write in WRITERS.items():
        whole = tmp_path / f"{container}.pth"
        write(whole, {"a": stored[0]}, stored)
        content = whole.read_bytes()
        for cut in (0, 1, 20, len(content) // 2, len(content) - 5):
            (tmp_path / "cut.pth").write_bytes(content[:cut])
            with pytest.raises(UserError, match="cut.pth"):
                files.load(tmp_path / "cut.pth")
    (tmp_path / "begun.pth").write_bytes(b"PK\x03\x04" + bytes(99))  # as a download that ended
    with pytest.raises(UserError, match="begun.pth: .*ends too early: fetch it again"):
        files.load(tmp_path / "begun.pth")
    for name in ("text.pth", "text.npz", "text.safetensors", "text.bin", "empty.pth"):
        (tmp_path / name).write_bytes(b"" if "empty" in name else b"hello, this is no weights file")
        with pytest.raises(UserError, match=name) as caught:
            files.load(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such"):
        files.load(tmp_path / "absent.npz")
    np.savez(tmp_path / "object.npz", a=np.array([{}], object))
    with pytest.raises(UserError, match="object.npz"):
        files.load(tmp_path / "object.npz")


def test_safetensors_and_npz(tmp_path):
    from safetensors.numpy import save_file

    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float16)}
    save_file(tensors, tmp_path / "w.safetensors")
    np.savez(tmp_path / "w.npz", **tensors)
    for name in ("w.safetensors", "w.npz"):
        loaded = files.load(tmp_path / name)
        assert set(loaded) == {"a", "b"} and loaded["b"].dtype == np.float16
        np.testing.assert_array_equal(loaded["a"], tensors["a"])


@pytest.fixture(scope="module")
def tiny():
    net = network(DeepLabV2(5, TINY, rates=(1, 3)))
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(net.init, jax.random.PRNGKey(0), images)
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def torch_state():
    """A state_dict of TINY in PyTorch's names and shapes, of random values."""
    generator = np.random.default_rng(0)
    state = {}

    def conv(name, out, into, side, bias=False):
        state[f"{name}.weight"] = generator.normal(size=(out, into, side, side))
        if bias:
            state[f"{name}.bias"] = generator.normal(size=out)

    def norm(name, size):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{leaf}"] = generator.uniform(0.5, 1, size)

    conv("conv1", 4, 3, 7)
    norm("bn1", 4)
    into = 4
    for stage, (blocks, width) in enumerate(zip((1, 2, 1, 1), (2, 3, 2, 3), strict=True), start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            conv(f"{name}.conv1", width, into, 1)
            conv(f"{name}.conv2", width, width, 3)
            conv(f"{name}.conv3", 4 * width, width, 1)
            for index, size in enumerate((width, width, 4 * width), start=1):
                norm(f"{name}.bn{index}", size)
            if block == 0:
                conv(f"{name}.downsample.0", 4 * width, into, 1)
                norm(f"{name}.downsample.1", 4 * width)
            into = 4 * width
    for head, into in (("layer5", 8), ("layer6", 12)):
        for branch in range(2):
            conv(f"{head}.conv2d_list.{branch}", 5, into, 3, bias=True)
    return {name: value.astype(np.float32) for name, value in state.items()}


def test_published_names(tiny):
    state = torch_state()
    params, stats, report = merge.merge(*tiny, rename.to_ours(state))
    assert len(report.matched) == len(state) and not report.unexcused
    np.testing.assert_array_equal(
        params["backbone"]["layer2_block1"]["conv2"]["kernel"][2, 0, 1],
        state["layer2.1.conv2.weight"][:, 1, 2, 0],
    )
    block, norm = params["backbone"]["layer3_block0"], "layer3.0.downsample.1"
    np.testing.assert_array_equal(block["downsample_bn"]["scale"], state[f"{norm}.weight"])
    np.testing.assert_array_equal(
        stats["backbone"]["layer3_block0"]["downsample_bn"]["var"], state[f"{norm}.running_var"]
    )
    np.testing.assert_array_equal(
        params["aux_head"]["branch1"]["bias"], state["layer5.conv2d_list.1.bias"]
    )
    np.testing.assert_array_equal(
        params["main_head"]["branch0"]["kernel"],
        state["layer6.conv2d_list.0.weight"].transpose(2, 3, 1, 0),
    )


def test_initial_files_of_torchvision_and_of_the_references(tiny):
    trunk = {k: v for k, v in torch_state().items() if not k.startswith(("layer5", "layer6"))}
    torchvision = {**trunk, "fc.weight": np.ones((1000, 12)), "fc.bias": np.ones(1000)}
    old_head = {"layer5.conv2d_list.0.weight": np.ones((21, 12, 3, 3), np.float32)}
    references = {f"Scale.{name}": value for name, value in {**trunk, **old_head}.items()}
    for tensors in (torchvision, references):
        renamed = rename.to_ours(tensors)
        params, _, report = merge.merge(*tiny, renamed, excused=rename.BACKBONE_ONLY)
        assert len(report.matched) == len(trunk)
        np.testing.assert_array_equal(
            params["main_head"]["branch0"]["kernel"], tiny[0]["main_head"]["branch0"]["kernel"]
        )
        np.testing.assert_array_equal(
            params["backbone"]["conv1"]["kernel"], trunk["conv1.weight"].transpose(2, 3, 1, 0)
        )
        with pytest.raises(UserError, match="missing: params/"):
            merge.merge(*tiny, renamed)
    assert (
        "fc.weight"
        in merge.merge(*tiny, rename.to_ours(torchvision), excused=rename.BACKBONE_ONLY)[
            2
        ].left_over
    )


def test_flavour():
    state = torch_state()
    trunk = {k: v for k, v in state.items() if not k.startswith(("layer5", "layer6"))}
    assert rename.flavour(state) == "reference"
    assert rename.flavour({f"Scale.{name}": 0 for name in trunk}) == "reference"
    assert rename.flavour({**trunk, "fc.weight": 0, "fc.bias": 0}) == "torchvision"
    assert rename.flavour(rename.to_ours(state)) == "ours"
    for names in (trunk, {"fc.weight": 0}, {f"encoder.{name}": 0 for name in trunk}, {}):
        assert rename.flavour(names) == "unknown"


def test_a_single_head_is_the_main_one():
    state = {"layer5.conv2d_list.3.bias": np.ones(19), "conv1.weight": np.ones((4, 3, 7, 7))}
    assert "params/main_head/branch3/bias" in rename.to_ours(state)
    state["layer6.conv2d_list.3.bias"] = np.zeros(19)
    assert rename.to_ours(state)["params/aux_head/branch3/bias"].all()


def test_mismatches_stop_unless_excused(tiny):
    state = torch_state()
    state["layer1.0.conv1.weight"] = np.ones((3, 4, 1, 1), np.float32)
    state["extra.weight"] = np.ones(3)
    del state["bn1.bias"]
    renamed = rename.to_ours(state)
    with pytest.raises(UserError) as caught:
        merge.merge(*tiny, renamed)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("extra.weight", "params/backbone/bn1/bias", "(1, 1, 4, 3) -> (1, 1, 4, 2)"):
        assert part in message
    excused = (r"^extra\.", r"/bn1/bias$", r"layer1_block0/conv1/kernel")
    params, _, report = merge.merge(*tiny, renamed, excused=excused)
    np.testing.assert_array_equal(params["backbone"]["bn1"]["bias"], np.zeros(4))
    assert "other shape    1" in str(report) and len(str(report).splitlines()) == 4
    lines = report.text().splitlines()
    assert f"matched: {len(state) - 2} (taken from the file)" in lines
    for name in (*report.matched, "extra.weight", "params/backbone/bn1/bias"):
        assert lines.count(f"  {name}") == 1
    changed = "  params/backbone/layer1_block0/conv1/kernel (1, 1, 4, 3) -> (1, 1, 4, 2)"
    assert lines.count(changed) == 1 and lines.index(changed) == len(lines) - 1
    with pytest.raises(UserError, match="no tensor"):
        merge.merge(*tiny, {"a": np.ones(3)}, excused=(".",))
    state = torch_state()
    state["bn1.bias"][1] = np.nan
    with pytest.raises(UserError, match="bn1/bias.*finite"):
        merge.merge(*tiny, rename.to_ours(state))


def test_own_names_round_trip(tmp_path, tiny):
    counter = iter(range(1000))
    params, stats = jax.tree.map(lambda leaf: leaf + np.float32(next(counter)), tiny)
    files.save(tmp_path / "own.npz", params, stats)
    again = merge.merge(*tiny, rename.to_ours(files.load(tmp_path / "own.npz")))
    jax.tree.map(np.testing.assert_array_equal, again[:2], (dict(params), dict(stats)))

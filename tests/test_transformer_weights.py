"""Weights of transformers in every layout, and checkpoints of self-training."""

import importlib
import re

import jax
import numpy as np
import pytest
from kit import references, torch_files, transformers
from kit.oracle64 import leaves
from safetensors.numpy import save_file

from jaxseg.errors import UserError
from jaxseg.experiment import restore
from jaxseg.models.backbones.given import given
from jaxseg.models.backbones.stages import Stage
from jaxseg.models.segmenters import build as segmenters
from jaxseg.models.segmenters import segformer
from jaxseg.resize import resize_matrix
from jaxseg.storage.weights import files, initial, merge, recognise, rename_dino, rename_mit
from jaxseg.storage.weights import transformers as weights
from jaxseg.storage.weights.tables import LINEAR, Rule, stacked, translate


def mit(prefix="", head=None):
    return transformers.values({**transformers.mit(prefix), **(head or {})})


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], name)


def hugging_face(state):
    """NVIDIA's names of a SegFormer as Hugging Face has them."""
    found = {}
    for name, array in state.items():
        name = re.sub(r"patch_embed(\d)\.", lambda m: f"patch_embeddings.{int(m[1]) - 1}.", name)
        name = re.sub(
            r"^backbone\.norm(\d)", lambda m: f"backbone.layer_norm.{int(m[1]) - 1}", name
        )
        name = re.sub(r"block(\d)\.", lambda m: f"block.{int(m[1]) - 1}.", name)
        name = name.replace("attn.norm", "attention.self.layer_norm")
        name = re.sub(r"(block\S*)\.norm([12])", r"\1.layer_norm_\2", name)
        name = re.sub(r"(embeddings\.\d)\.norm", r"\1.layer_norm", name)
        name = name.replace("attn.proj", "attention.output.dense").replace("attn.q", "attn.query")
        name = name.replace("attn.", "attention.self.").replace("mlp.fc", "mlp.dense")
        name = name.replace("backbone.", "segformer.encoder.")
        name = re.sub(r"linear_c(\d)", lambda m: f"linear_c.{int(m[1]) - 1}", name)
        name = name.replace("linear_fuse.conv", "linear_fuse").replace(
            "linear_fuse.bn", "batch_norm"
        )
        name = name.replace("linear_pred", "classifier")
        if ".kv." in name:
            for part, half in zip(("key", "value"), np.split(array, 2), strict=True):
                found[name.replace(".kv.", f".{part}.")] = half
        else:
            found[name] = array
    return found


def mmseg(state):
    """NVIDIA's names of an encoder as mmsegmentation has them from 0.20 on."""
    found = {}
    for name, array in state.items():
        if match := re.fullmatch(r"patch_embed(\d)\.(proj|norm)\.(\w+)", name):
            part = {"proj": "projection", "norm": "norm"}[match[2]]
            found[f"layers.{int(match[1]) - 1}.0.{part}.{match[3]}"] = array
        elif match := re.fullmatch(r"norm(\d)\.(\w+)", name):
            found[f"layers.{int(match[1]) - 1}.2.{match[2]}"] = array
        else:
            stage, block, rest = re.fullmatch(r"block(\d)\.(\d+)\.(.+)", name).groups()
            base = f"layers.{int(stage) - 1}.1.{block}."
            leaf = rest.rpartition(".")[2]
            if rest.startswith("attn.q."):
                both = [array, state[name.replace(".q.", ".kv.")]]
                found[f"{base}attn.attn.in_proj_{leaf}"] = np.concatenate(both)
            elif rest.startswith("mlp."):
                layer = {"fc1": 0, "dwconv": 1, "fc2": 4}[rest.split(".")[1]]
                array = array[:, :, None, None] if array.ndim == 2 else array
                found[f"{base}ffn.layers.{layer}.{leaf}"] = array
            elif not rest.startswith("attn.kv."):
                rest = rest.replace("attn.proj", "attn.attn.out_proj")
                found[base + rest] = array
    return found


def nvidia_segformer():
    """MIC's SegFormer on mit_tiny in NVIDIA's names; the stages are mixed from coarse to fine."""
    state = mit("backbone.", transformers.segformer())
    found = {}
    for name, array in state.items():
        name = re.sub(r"linear_c\.(\d)", lambda m: f"linear_c{int(m[1]) + 1}", name)
        if name == "decode_head.linear_fuse.conv.weight":
            array = np.concatenate(np.split(array, 4, axis=1)[::-1], axis=1)
        found[name] = array
    return found


def test_three_layouts_of_an_encoder():
    state = mit()
    ours = rename_mit.to_ours(state)
    assert all(name.startswith("params/backbone/") for name in ours)
    assert len(ours) == len(state)
    same(rename_mit.to_ours(mmseg(state)), ours)
    prefixed = {f"backbone.{name}": array for name, array in state.items()}
    same(rename_mit.to_ours(hugging_face(prefixed)), ours)
    same(rename_mit.to_ours(prefixed), ours)


def test_three_layouts_of_segformer():
    ours = rename_mit.to_ours(mit("backbone.", transformers.segformer()))
    nvidia = nvidia_segformer()
    same(rename_mit.to_ours(nvidia), ours)
    found = rename_mit.to_ours(
        hugging_face({name: a for name, a in nvidia.items() if "conv_seg" not in name})
    )
    same(found, {name: array for name, array in ours.items() if "conv_seg" not in name})


def test_a_name_that_no_rule_knows_is_refused():
    module = segmenters.build(
        "segformer", 5, "mit_tiny", norm="train", axis_name=None, dtype=np.float32, channels=16
    )
    empty = references.zeros(module, (32, 32))
    state = mit("backbone.", transformers.segformer())
    state["backbone.block1.0.attn.extra.weight"] = np.zeros(3, np.float32)
    with pytest.raises(UserError, match=r"1 left over: backbone\.block1\.0\.attn\.extra\.weight"):
        merge.merge(*empty, rename_mit.to_ours(state), excused=weights.UNREAD)
    del state["backbone.block1.0.attn.extra.weight"], state["backbone.norm2.bias"]
    with pytest.raises(UserError, match="1 missing: params/backbone/norm2/bias"):
        merge.merge(*empty, rename_mit.to_ours(state), excused=weights.UNREAD)


def test_two_names_for_one_tensor():
    rules = (Rule("[ab]", "c", LINEAR),)
    with pytest.raises(UserError, match="a.bias and b.bias both stand for params/c/bias"):
        translate({"a.bias": np.zeros(2), "b.bias": np.zeros(2)}, rules)


def test_stacking_wants_all_parts_but_biases():
    parts = {"0.q.weight": np.ones((2, 3)), "0.k.weight": np.zeros((2, 3)), "0.q.bias": np.ones(2)}
    found = stacked(parts, [r"(\d)\.q", r"(\d)\.k"], "{0}.qk")
    np.testing.assert_array_equal(found["0.qk.bias"], [1, 1, 0, 0])
    assert found["0.qk.weight"].shape == (4, 3)
    del parts["0.k.weight"]
    with pytest.raises(UserError, match=r"of 0\.qk\.weight only 0\.q\.weight is there"):
        stacked(parts, [r"(\d)\.q", r"(\d)\.k"], "{0}.qk")


def dinov2_hugging_face(state):
    found = {}
    for name, array in state.items():
        name = name.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")
        name = name.replace("pos_embed", "embeddings.position_embeddings")
        name = re.sub(r"^((cls|mask)_token|register_tokens)", r"embeddings.\1", name)
        name = re.sub(r"^norm\.", "layernorm.", name)
        name = name.replace("blocks.", "encoder.layer.").replace(".attn.", ".attention.")
        name = re.sub(r"ls([12])\.gamma", r"layer_scale\1.lambda1", name)
        name = name.replace("attention.proj", "attention.output.dense")
        name = name.replace("mlp.w12", "mlp.weights_in").replace("mlp.w3", "mlp.weights_out")
        if ".qkv." in name:
            for part, third in zip(("query", "key", "value"), np.split(array, 3), strict=True):
                found[name.replace(".qkv.", f".attention.{part}.")] = third
        else:
            found[name] = array
    return found


def dinov3_hugging_face(state):
    found = {}
    for name, array in state.items():
        name = name.replace("patch_embed.proj", "embeddings.patch_embeddings")
        name = re.sub(r"^((cls|mask)_token)", r"embeddings.\1", name)
        name = name.replace("storage_tokens", "embeddings.register_tokens")
        name = name.replace("blocks.", "layer.").replace(".attn.", ".attention.")
        name = re.sub(r"ls([12])\.gamma", r"layer_scale\1.lambda1", name)
        name = name.replace("attention.proj", "attention.o_proj").replace("mlp.fc1", "mlp.up_proj")
        name = name.replace("mlp.fc2", "mlp.down_proj").replace("mlp.w1", "mlp.gate_proj")
        name = name.replace("mlp.w2", "mlp.up_proj").replace("mlp.w3", "mlp.down_proj")
        if ".qkv." in name:
            for part, third in zip("qkv", np.split(array, 3), strict=True):
                if part != "k" or not name.endswith(".bias"):
                    found[name.replace(".qkv.", f".{part}_proj.")] = third
        else:
            found[name] = array
    return found


@pytest.mark.parametrize(
    "settings, registers", [({}, 0), (dict(registers=4), 4), (dict(gated=True), 0)]
)
def test_two_layouts_of_dinov2(settings, registers):
    state = transformers.values(transformers.dinov2(**settings))
    ours = rename_dino.to_ours(state)
    assert all(name.startswith("params/backbone/") for name in ours)
    assert ("params/backbone/registers" in ours) == bool(registers)
    same(rename_dino.to_ours(dinov2_hugging_face(state)), ours)


@pytest.mark.parametrize("gated", [False, True])
def test_two_layouts_of_dinov3(gated):
    state = transformers.values(transformers.dinov3(gated=gated))
    ours = rename_dino.to_ours(state)
    same(rename_dino.to_ours(dinov3_hugging_face(state)), ours)
    buffers = {"rope_embed.periods": np.ones(4), "blocks.0.attn.qkv.bias_mask": np.ones(96)}
    found = rename_dino.to_ours({**state, **buffers})
    extra = set(found) - set(ours)
    assert len(extra) == 2
    assert all(any(re.search(p, name) for p in weights.UNREAD) for name in extra)


def test_a_table_that_is_not_square():
    state = transformers.values(transformers.dinov2())
    state["pos_embed"] = np.zeros((1, 12, 32))
    with pytest.raises(UserError, match="no square table"):
        rename_dino.to_ours(state)


# --- recognised ---


def checkpoint(kind):
    """A checkpoint of self-training as DAFormer's code (or VFM-UDA's) saves it."""
    if kind == "vfm":
        state = transformers.values(transformers.vfm())
        teacher = {n.replace("network.", "network_ema.", 1): 0 * a for n, a in state.items()}
        return {**state, **teacher}
    head = transformers.hrda() if kind == "hrda" else transformers.daformer()
    student = mit("backbone.", head)
    return {
        **{f"model.{name}": array for name, array in student.items()},
        **{f"ema_model.{name}": 0 * array for name, array in student.items()},
        **{f"imnet_model.{name}": array for name, array in mit("backbone.").items()},
    }


ONE_LEVEL = dict(aux=False, depth=False, fusion=False, hrda=None)
SETTINGS = dict(norm="local", backbone="mit_tiny", preprocess="imagenet", architecture="daformer",
                context="sepaspp", channels=16, **ONE_LEVEL)  # fmt: skip


@pytest.mark.parametrize(
    "kind, net, parts",
    [
        ("daformer", SETTINGS, ("DAFormer on MiT tiny, 5 classes", "the student")),
        ("hrda", SETTINGS | dict(hrda=(512, 512)), ("two scales (HRDA)", "teacher", "ImageNet")),
        (
            "vfm",
            dict(backbone="dinov2_tiny", preprocess="imagenet", architecture="vfm", **ONE_LEVEL),
            ("VFM-UDA on DINOv2 tiny, 5 classes", "teacher (74 tensors)"),
        ),
    ],
)
def test_checkpoints_of_self_training(kind, net, parts):
    found = recognise.recognise(checkpoint(kind))
    assert found.net == net and found.num_classes == 5
    assert all(part in found.origin for part in parts), found.origin


@pytest.mark.parametrize("context", ["conv1", "aspp"])
def test_other_contexts(context):
    found = recognise.recognise(mit("backbone.", transformers.daformer(context)))
    assert found.net == SETTINGS | dict(context=context)


def test_segformer_in_each_layout():
    net = {name: value for name, value in SETTINGS.items() if name != "context"}
    for state in (nvidia_segformer(), mit("backbone.", transformers.segformer())):
        assert recognise.recognise(state).net == net | dict(architecture="segformer")


def test_mmsegmentations_segformer():
    """Its own head: a convolution with norm and ReLU for each stage; logits in float64 NumPy."""
    state = mit("backbone.", transformers.mmseg_segformer())
    found = recognise.recognise(state)
    assert found.net["embed"] == "conv" and found.net["architecture"] == "segformer"
    assert found.num_classes == 5 and "mmsegmentation's SegFormer on MiT tiny" in found.origin
    head = {n: a for n, a in rename_mit.to_ours(state).items() if "main_head" in n}
    assert len(head) == len(transformers.mmseg_segformer())
    module = segformer.SegFormer(5, given, 16, embed="conv", norm="local")
    rng = np.random.default_rng(0)
    sizes = [(8, 12), (4, 6), (2, 3), (1, 2)]
    maps = [rng.normal(size=(2, *s, w)) for s, w in zip(sizes, transformers.WIDTHS, strict=True)]
    stages = {f"stage{i}": Stage(np.float32(x), 4) for i, x in enumerate(maps, 1)}
    variables = jax.eval_shape(lambda: module.init(jax.random.PRNGKey(0), stages, False))
    empty = [
        jax.tree.map(lambda x: np.zeros(x.shape), variables[k]) for k in ("params", "batch_stats")
    ]
    params, stats, report = merge.merge(*empty, head)
    assert not (report.left_over or report.missing or report.mismatched)
    logits = module.apply({"params": params, "batch_stats": stats}, stages, False)["main"]

    def conv_norm(x, name):
        weight, bias, mean, var = (
            np.float64(state[f"decode_head.{name}.bn.{leaf}"])
            for leaf in ("weight", "bias", "running_mean", "running_var")
        )
        x = x @ np.float64(state[f"decode_head.{name}.conv.weight"])[:, :, 0, 0].T
        return np.maximum((x - mean) / np.sqrt(var + 1e-5) * weight + bias, 0)

    embedded = []
    for i, x in enumerate(maps):
        rows, columns = (
            resize_matrix(n, m, align_corners=False)
            for n, m in zip(sizes[i], sizes[0], strict=True)
        )
        embedded.append(np.einsum("Hh,Ww,nhwc->nHWc", rows, columns, conv_norm(x, f"convs.{i}")))
    x = conv_norm(np.concatenate(embedded, -1), "fusion_conv")
    expected = x @ state["decode_head.conv_seg.weight"][:, :, 0, 0].T
    np.testing.assert_allclose(logits, expected + state["decode_head.conv_seg.bias"], atol=1e-4)


@pytest.mark.parametrize(
    "state, name",
    [
        (mit(), "MiT tiny"),
        (transformers.values(transformers.dinov2()), "DINOv2 tiny"),
        (transformers.values(transformers.dinov3()), "DINOv3 tiny"),
    ],
)
def test_an_encoder_is_no_segmentation(state, name):
    with pytest.raises(UserError, match=f"{name} without a head.*--config.init.backbone"):
        recognise.recognise(state)


def test_sizes_and_heads_that_nobody_knows():
    state = mit("backbone.", transformers.daformer())
    odd = {name.replace("block4.0", "block4.1"): array for name, array in state.items()}
    odd |= state
    with pytest.raises(UserError, match=r"MiT of sizes .*\(1, 1, 1, 2\).* none of mit_b0"):
        recognise.recognise(odd)
    other = mit("backbone.") | {"decode_head.psp.0.conv.weight": np.zeros((16, 16, 1, 1))}
    with pytest.raises(UserError, match=r"a head that is not known \(main_head.psp.0"):
        recognise.recognise(other)
    for part in ("fuse_layer.in_conv.conv", "embed_layers.3.1.bottleneck.conv"):
        ablation = mit("backbone.", transformers.daformer("conv1"))
        ablation[f"decode_head.{part}.weight"] = np.zeros((16, 16, 1, 1))
        with pytest.raises(UserError, match=rf"ISA.*main_head.{part}.*no weights were published"):
            recognise.recognise(ablation)


def load_config(**net):
    config = importlib.import_module("configs.source_only").get_config("streets+scratch")
    config.net.update(net)
    return config


def with_classes(state, count):
    """The same weights with a classifier of `count` classes."""
    return {
        name: np.resize(array, (count, *array.shape[1:])) if "conv_seg" in name else array
        for name, array in state.items()
    }


def test_a_checkpoint_from_file_to_network(tmp_path):
    config = load_config()
    count = len(importlib.import_module("jaxseg.experiment.settings").label_set(config).classes)
    state = with_classes(checkpoint("daformer"), count)
    path = tmp_path / "iter_40000.pth"
    torch_files.write_state_dict(path, state, "zip")
    lines = []
    loaded = restore.from_weights(config, path, announce=lines.append)
    assert loaded.config.net.architecture == "daformer" and loaded.config.net.channels == 16
    assert any("beside it: teacher" in line for line in lines)
    (report,) = (line for line in lines if line.startswith("matched"))
    student = {name for name in state if name.startswith("model.")}
    assert re.search(rf"^matched +{len(student)}$", report, re.MULTILINE)
    assert re.search(r"^left over +0$", report, re.MULTILINE)
    got = leaves(loaded.model["params"]["gen"]["segmenter"])["backbone/norm4/bias"]
    np.testing.assert_array_equal(got, state["model.backbone.norm4.bias"])


def test_an_encoder_as_initial_weights(tmp_path):
    """The encoder in Hugging Face's file fits a DAFormer; classifier and heads are reported."""
    state = hugging_face({f"backbone.{name}": array for name, array in mit().items()})
    state["classifier.weight"] = np.zeros((1000, 64), np.float32)
    save_file(state, tmp_path / "mit.safetensors")
    tensors = files.load(tmp_path / "mit.safetensors")
    module = segmenters.build(
        "daformer", 5, "mit_tiny", norm="train", axis_name=None, dtype=np.float32, channels=16
    )
    empty = references.zeros(module, (32, 32))
    ours = initial.to_ours(tensors, "daformer")
    _, _, report = merge.merge(*empty, ours, excused=initial.excused("daformer", tensors))
    assert report.left_over == ("classifier.weight",) and not report.unexcused
    assert len(report.matched) == len(mit())
    assert all(name.split("/")[1] == "main_head" for name in report.missing)

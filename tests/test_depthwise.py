"""Depthwise convolution against its definition in float64 NumPy, and TensorFlow's padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from benchmarks import depthwise as benchmark
from jaxseg import routes
from jaxseg.models.layers.depthwise import DepthwiseConv, depthwise, same_padding


@pytest.mark.parametrize(
    "size, kernel, stride, dilation, padding",
    [
        # By hand: max((ceil(n / s) - 1) s + (k - 1) d + 1 - n, 0), the smaller half before.
        (224, 3, 2, 1, (0, 1)), (225, 3, 2, 1, (1, 1)), (112, 5, 2, 1, (1, 2)),
        (113, 5, 2, 1, (2, 2)), (14, 5, 1, 1, (2, 2)), (14, 5, 1, 2, (4, 4)), (7, 1, 2, 1, (0, 0)),
    ],
)  # fmt: skip
def test_same_padding_by_hand(size, kernel, stride, dilation, padding):
    assert same_padding(size, kernel, stride, dilation) == padding


def test_same_padding_is_that_of_xla():
    for size in range(1, 12):
        for kernel in (1, 3, 5):
            for stride in (1, 2, 3):
                ours = same_padding(size, kernel, stride)
                assert [ours] == lax.padtype_to_pads((size,), (kernel,), (stride,), "SAME")


def by_definition(x, kernel, gradient, stride, padding, dilation):
    """(y, gradient for x, gradient for the kernel), float64."""
    padded = np.pad(x, ((0, 0), *padding, (0, 0)))
    to_padded, to_kernel = np.zeros_like(padded), np.zeros_like(kernel)
    y = np.zeros_like(gradient)
    for h, w in np.ndindex(y.shape[1:3]):
        for r, c in np.ndindex(kernel.shape[:2]):
            at = np.s_[:, h * stride + r * dilation, w * stride + c * dilation]
            y[:, h, w] += padded[at] * kernel[r, c, 0]
            to_padded[at] += gradient[:, h, w] * kernel[r, c, 0]
            to_kernel[r, c, 0] += (padded[at] * gradient[:, h, w]).sum(0)
    (top, _), (left, _) = padding
    return y, to_padded[:, top : top + x.shape[1], left : left + x.shape[2]], to_kernel


def check(cases, dtype=np.float64, rtol=0.0, atol=1e-12):
    """All cases in one compilation."""
    rng, given, expected = np.random.default_rng(0), [], []
    for side, stride, dilation, size, padding in cases:
        padding = padding or tuple(same_padding(n, side, stride, dilation) for n in size)
        counts = [
            (n + sum(p) - (side - 1) * dilation - 1) // stride + 1
            for n, p in zip(size, padding, strict=True)
        ]
        shapes = (2, *size, 3), (side, side, 1, 3), (2, *counts, 3)
        arrays = [rng.normal(size=shape).astype(dtype) for shape in shapes]
        given.append(arrays)
        wide = (array.astype(np.float64) for array in arrays)
        expected.append(by_definition(*wide, stride, padding, dilation))

    @jax.jit
    def ours(given):
        found = []
        for (side, stride, dilation, size, padding), (x, k, g) in zip(cases, given, strict=True):
            padding = padding or tuple(same_padding(n, side, stride, dilation) for n in size)
            function = lambda x, k: depthwise(x, k, stride, padding, dilation, True)  # noqa: B023, E731
            y, back = jax.vjp(function, x, k)
            found.append((y, *back(g)))
        return found

    # Optimising would take most of the time.
    compiled = ours.lower(given).compile(compiler_options={"xla_backend_optimization_level": 0})
    for case, found, exact in zip(cases, compiled(given), expected, strict=True):
        for a, b in zip(found, exact, strict=True):
            assert a.dtype == dtype
            a = np.asarray(a, np.float64)
            np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=str(case))


@pytest.mark.parametrize("side", [1, 3, 5])
def test_same_padding_in_float64(side):
    with jax.enable_x64(True):
        check(
            [
                (side, stride, dilation, size, None)
                for stride, dilation in ((1, 1), (1, 2), (2, 1), (2, 2), (3, 1))
                for size in ((6, 5), (7, 4))[: 1 if side == 5 and dilation > 1 else 2]
            ]
        )


def test_any_padding_in_float32():
    paddings = ((0, 0), (0, 0)), ((1, 0), (3, 2)), ((4, 4), (4, 4))
    cases = [(3, stride, 1, (7, 6), padding) for padding in paddings for stride in (1, 2)]
    check(cases, np.float32, atol=2e-5)


def test_bfloat16_loses_one_rounding():
    check([(5, 1, 1, (8, 8), None), (3, 2, 1, (8, 7), None)], jnp.bfloat16, 2**-8, 1e-5)


def test_module_routes_and_complaints():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 7, 10, 6)), jnp.float32)
    module = DepthwiseConv(5, stride=2)
    variables = jax.jit(module.init)(jax.random.PRNGKey(0), x)
    assert variables["params"]["kernel"].shape == (5, 5, 1, 6)
    apply = lambda v, x: [  # noqa: E731
        DepthwiseConv(5, stride=2, shifted=shifted).apply(v, x) for shifted in (True, False)
    ]
    ours, theirs = jax.jit(apply)(variables, x)
    assert ours.shape == (1, 4, 5, 6)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    with pytest.raises(ValueError, match="depthwise wants"):
        depthwise(x, jnp.zeros((3, 3, 6, 1)))


def test_accelerators_get_one_grouped_convolution():
    x = jnp.zeros((1, 8, 8, 6))
    for platform, count in (("cpu", 0), ("gpu", 1), ("tpu", 1)):
        with routes.use(platform):
            traced = jax.make_jaxpr(lambda x: depthwise(x, jnp.zeros((3, 3, 1, 6))))(x)
        assert str(traced).count("conv_general_dilated[") == count
        assert str(traced).count("feature_group_count=6") == count


def test_the_benchmark_compares_every_layer(capsys):
    flags = ["--backbone=efficientnet_tiny", "--images=1", "--size=32x64", "--turns=1"]
    assert benchmark.main(flags) == 0
    out = capsys.readouterr().out
    assert "all of them" in out and "3x3/2" in out and "5x5/1" in out

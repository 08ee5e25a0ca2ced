"""Whether a step fits into memory: numbers by hand, made-up files of the system, a real program."""

from types import SimpleNamespace
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.small import small_config

from jaxseg.engine import memory, programs
from jaxseg.errors import UserError
from jaxseg.experiment import memory as experiment_memory

GB = 10**9
TRY = "try {:.1f} times less".format
DEVICE = SimpleNamespace(platform="cpu", device_kind="cpu")


def compiled(between, results=0, alias=0, arguments=0):
    planned = SimpleNamespace(
        argument_size_in_bytes=arguments, output_size_in_bytes=results,
        alias_size_in_bytes=alias, temp_size_in_bytes=between,
    )  # fmt: skip
    return SimpleNamespace(memory_analysis=lambda: planned)


def accelerator(limit, used):
    stats = {"bytes_limit": limit, "bytes_in_use": used}
    return SimpleNamespace(platform="gpu", device_kind="A100", memory_stats=lambda: stats)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_free_memory_of_the_system_and_of_its_container(tmp_path):
    meminfo, cgroup = tmp_path / "meminfo", tmp_path / "cgroup"
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\nSwapFree: 1000 kB\nHuge: 0\n")
    assert memory.host_memory(meminfo, cgroup) == 6000 * 1024
    write(cgroup / "memory.max", "max\n")  # no limit
    write(cgroup / "memory.current", "70\n")
    write(cgroup / "memory.stat", "anon 20\ninactive_file 50\n")
    assert memory.host_memory(meminfo, cgroup) == 6000 * 1024
    write(cgroup / "memory.max", "4000000\n")  # 70 bytes used, 50 of them files
    assert memory.host_memory(meminfo, cgroup) == 4_000_000 - 20
    (cgroup / "memory.max").unlink()
    write(cgroup / "memory/memory.limit_in_bytes", "1000\n")
    write(cgroup / "memory/memory.usage_in_bytes", "900\n")
    write(cgroup / "memory/memory.stat", "total_inactive_file 100\n")
    assert memory.host_memory(meminfo, cgroup) == 200
    assert memory.host_memory(tmp_path / "nothing", cgroup) > 2**20  # all there is


def test_what_does_not_fit_is_one_line_with_the_numbers(monkeypatch):
    monkeypatch.setattr(memory, "host_memory", lambda: 10 * GB)
    memory.check(compiled(9 * GB), [DEVICE], "a step", TRY)
    # A CPU's block is reserved as it is touched: 0.8 of 12 GB are less than 10.
    memory.check(compiled(12 * GB), [DEVICE], "a step", TRY)
    wanted = r"^a step needs 48\.1 GB besides the 64\.0 MB of its weights and images, but 10\.0 GB "
    with pytest.raises(UserError, match=wanted + "of memory are free: try 4.8 times less$"):
        memory.check(compiled(48.1 * GB, arguments=64e6), [DEVICE], "a step", TRY)
    # Two simulated devices share one memory.
    with pytest.raises(UserError, match=r"but 5\.0 GB"):
        memory.check(compiled(9 * GB), [DEVICE] * 2, "a step", TRY)


def test_an_accelerators_limit_counts_as_it_is():
    devices = [accelerator(80 * GB, 10 * GB), accelerator(80 * GB, 12 * GB)]
    assert memory.free(devices) == 68 * GB
    # Results that take the place of arguments need no room.
    fits = compiled(66 * GB, results=12 * GB, alias=10 * GB)
    memory.check(fits, devices, "a step", TRY)
    with pytest.raises(UserError, match=r"needs 69\.0 GB .* but 68\.0 GB of memory of A100 are"):
        memory.check(compiled(66 * GB, results=3 * GB), devices, "a step", TRY)
    silent = SimpleNamespace(platform="gpu", memory_stats=lambda: None)
    assert memory.free([silent]) is None
    memory.check(compiled(999 * GB), [silent], "a step", TRY)  # nothing is known, nothing refused
    memory.check(SimpleNamespace(memory_analysis=lambda: None), devices, "a step", TRY)
    for error in (NotImplementedError(), jax.errors.JaxRuntimeError("UNIMPLEMENTED")):
        unplanned = SimpleNamespace(memory_analysis=mock.Mock(side_effect=error))
        assert memory.needs(unplanned) is None
        memory.check(unplanned, devices, "a step", TRY)


def test_a_programs_needs_are_its_arrays():
    """Sorting needs a place for what is sorted, which the sum then reads in two orders."""
    seen = []

    def body(x):
        ordered = jnp.sort(x, 0)
        return (ordered * ordered[::-1]).sum()

    program = jax.pmap(body, "d", devices=jax.devices()[:1])
    program = programs.keep_barriers(program, lambda compiled: seen.append(memory.needs(compiled)))
    x = np.ones((1, 256, 256), np.float32)
    for _ in range(2):
        np.testing.assert_allclose(program(x), [256**2], rtol=1e-6)
    (needs,) = seen  # looked at once, before the first call
    assert needs.arguments == x.nbytes and needs.results == 4
    assert x.nbytes <= needs.between <= 3 * x.nbytes


@pytest.mark.parametrize("kind", ["jit", "pmap"])
def test_a_jitted_programs_needs_are_looked_at_and_it_is_compiled_once(kind):
    traced, seen, wrong = [], [], [UserError("too much")]

    def body(x, n):
        traced.append(x.shape)
        return x.sum() * n

    def look(compiled, x, n):
        seen.append((memory.needs(compiled).arguments, np.shape(x), n))
        if wrong:
            raise wrong.pop()

    jitted = jax.jit(body, static_argnums=1)
    if kind == "pmap":
        options = dict(in_axes=(0, None), devices=jax.devices()[:1])
        jitted = jax.pmap(body, static_broadcasted_argnums=1, **options)
    count, ones, compiled = memory.looked_at(jitted, look, static=(1,)), np.ones((1, 40), "f4"), []

    def listen(event, *_, **__):
        compiled.append(event) if "backend_compile" in event else None

    with pytest.raises(UserError, match="too much"):
        count(ones, 3)
    jax.monitoring.register_event_duration_secs_listener(listen)
    for _ in range(2):
        assert np.asarray(count(ones, 3)).item() == 120
    jax.monitoring.unregister_event_duration_listener(listen)
    assert not compiled
    assert seen == [(160, (1, 40), 3)] * 2 and len(traced) == 1  # refused once, then let pass
    assert np.asarray(count(ones, 4)).item() == 160
    assert len(seen) == 3 and len(traced) == 2


def test_the_allocators_own_error(tmp_path):
    def fail():
        return jnp.zeros(2**60, np.uint8).block_until_ready()

    config = small_config("advent", tmp_path)
    with pytest.raises(UserError, match="^memory ran out .*: try .*smaller config.train.batch=2"):
        with experiment_memory.told(config):
            fail()
    wanted = (
        r"^memory ran out .*: try a smaller config\.eval\.batch=2 or config\.data\.target\.size"
    )
    with pytest.raises(UserError, match=wanted), experiment_memory.told(config, evaluating=True):
        fail()
    with pytest.raises(ZeroDivisionError), experiment_memory.told(config):
        _ = 1 / 0


def test_remedies_are_settings_that_would_help(tmp_path):
    config = small_config("advent", tmp_path)
    text = experiment_memory.remedies(config, how="vmap")
    assert "--config.sweep.how=map" in text
    assert "--config.train.accumulate=2 (images one by one)" in text
    config.train.batch = 400  # 4.2 times too much: fifths of it are the first that fit
    assert "accumulate=5 (80 images" in experiment_memory.remedies(config, factor=4.2)
    assert "accumulate=4 (50 images" in experiment_memory.remedies(config, 2, factor=4.0)
    assert "accumulate=400 (images one by one" in experiment_memory.remedies(config, factor=999.0)
    assert f"config.data.target.size={tuple(config.data.target.size)}" in text
    assert "--config.net.remat=True" in text
    assert "bfloat16" not in text  # a CPU computes in float32
    with config.unlocked():
        config.train.batch, config.net.remat = 1, True
        config.augment.source.crop = (16, 32)
    assert experiment_memory.remedies(config) == "try a smaller config.augment.source.crop=(16, 32)"


def test_images_of_a_step_that_do_not_fit_are_refused_before_they_are_read(tmp_path, monkeypatch):
    config = small_config("advent", tmp_path)
    shapes = {"source_image": jax.ShapeDtypeStruct((100, 1000, 1000, 3), np.uint8)}
    monkeypatch.setattr(memory, "host_memory", lambda: 3 * 10**8)
    experiment_memory.check_batch(config, shapes)
    monkeypatch.setattr(memory, "host_memory", lambda: 2 * 10**8)
    with pytest.raises(UserError, match="take 300.0 MB, but 200.0 MB of memory are free: try"):
        experiment_memory.check_batch(config, shapes)

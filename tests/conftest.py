"""Every test has two simulated CPU devices; warnings are errors (pyproject.toml)."""

import gc
import os
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
flags = os.environ.get("XLA_FLAGS", "")
if "host_platform_device_count" not in flags:
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=2".strip()

# Programs compiled by one test are reused by others and by the next run. Each worker has a folder
# of its own, as JAX writes these files without a lock.
worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    os.path.join(tempfile.gettempdir(), f"jaxseg-tests-{os.getuid()}-{worker}"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

# Every program compiled for the CPU holds memory mappings as long as it can be called again, and
# Linux ends a process that wants more of them than vm.max_map_count (65,530): a worker that has
# compiled for hundreds of tests gets there.
MAPPINGS = 20_000


def mappings() -> int:
    """Number of memory mappings of this process; 0 if the system does not report it."""
    try:
        with open("/proc/self/maps", "rb") as file:
            return sum(1 for _ in file)
    except OSError:
        return 0


def pytest_runtest_logfinish(nodeid, location):
    """After a test, in the worker that ran it: forgets compiled programs if there are too many."""
    if mappings() > MAPPINGS:
        import jax

        jax.clear_caches()
        gc.collect()

"""Two fake CPU devices for every test; warnings are errors (pyproject.toml)."""

import os
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
flags = os.environ.get("XLA_FLAGS", "")
if "host_platform_device_count" not in flags:
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=2".strip()

# Programs compiled by one test are reused by others and by the next run. Each worker has its own:
# JAX writes these files without a lock, and reading one half written ends the process.
worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    os.path.join(tempfile.gettempdir(), f"jaxseg-tests-{os.getuid()}-{worker}"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

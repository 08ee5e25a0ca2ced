"""The answers about models: trained ones, offered ones, importing and exporting."""

import os
import sys
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from jaxseg.errors import UserError
from jaxseg.experiment import presets
from jaxseg.web import catalogue, datasets, jobs, launcher, pages_jobs, pages_try, recipes, runs
from jaxseg.web.places import Missing, Places, new_name, within

MOST = 100  # trained networks in one answer
FORMATS = {"jax": ".npz", "onnx": ".onnx"}


def routes(where: Places, queue: jobs.Queue) -> list[Route]:
    """The routes below /api/models, and the export of a run."""

    def index(request: Request) -> Response:
        shown, more = trained(where, request.query_params.get("q", ""))
        files = datasets.folders(where)["weights"]
        own = [{"path": f, "bytes": (where.data / f).stat().st_size} for f in files]
        return JSONResponse({
            "trained": shown, "more": more, "offered": catalogue.offered(files), "files": own,
            "top": str(where.data),
        })  # fmt: skip

    def checksum(request: Request) -> Response:
        path = weights(where, request.query_params.get("path", ""))
        return JSONResponse({"path": str(path), "sha256": catalogue.checksum(path)})

    async def bring(request: Request) -> Response:
        form = await pages_jobs.form(request)
        return JSONResponse(await run_in_threadpool(begin_import, where, queue, form), 201)

    async def export(request: Request) -> Response:
        form = await pages_jobs.form(request)
        name = request.path_params["name"]
        return JSONResponse(await run_in_threadpool(begin_export, where, queue, name, form), 201)

    def exported(request: Request) -> Response:
        name, file = request.path_params["name"], request.path_params["file"]
        folder = runs.folder_of(where.runs, name) / "export"
        if not file.endswith(tuple(FORMATS.values())):
            raise UserError(f"{file} is no exported network")
        return FileResponse(within(folder, file), filename=f"{name.replace('/', '_')}_{file}")

    return [
        Route("/api/models", index),
        Route("/api/models/checksum", checksum),
        Route("/api/models/import", bring, methods=["POST"]),
        Route("/api/runs/{name:path}/export", export, methods=["POST"]),
        Route("/api/runs/{name:path}/export/{file}", exported),
    ]


def trained(where: Places, query: str) -> tuple[list[dict[str, Any]], bool]:
    """The newest runs with snapshots, at most `MOST`, and whether there may be more.

    Args:
      query: words that must stand in a run's name, method or data.
    """
    found: list[dict[str, Any]] = []
    for run in runs.listed(where.runs, query=query):
        if len(found) == MOST:
            return found, True
        choices = pages_try.network_choices(where, run["name"])
        if choices["steps"]:
            facts = {k: run[k] for k in ("method", "data", "network", "miou", "changed")}
            found.append({**choices, **facts, "exports": exports(where, run["name"])})
    return found, False


def weights(where: Places, relative: str) -> Path:
    """A weights file within the data's folder; UserError for anything else."""
    if not relative:
        raise UserError(f"choose a file within {where.data}")
    path = within(where.data, relative)
    if not path.is_file() or path.suffix not in catalogue.SUFFIXES:
        raise UserError(f"{relative} is no weights file ({', '.join(catalogue.SUFFIXES)})")
    return path


def begin_import(where: Places, queue: jobs.Queue, form: dict[str, Any]) -> dict:
    """Queues the import of a weights file.

    Args:
      form: path, of the file within the data's folder; name, of the new run folder; config, the
        name of a run whose settings the file's network has, or as 'advent:streets', or '' for a
        published network, which is recognised.
    """
    path = weights(where, pages_jobs.text(form, "path"))
    name, config = new_name(pages_jobs.text(form, "name")), pages_jobs.text(form, "config")
    if (where.runs / name).exists():
        raise UserError(f"there is a folder {name} already: give another name")
    if config:
        config = belonging(where, config)
    argv = [sys.executable, "-u", "-m", "jaxseg.web.importing", str(path), config,
            str(where.runs / name)]  # fmt: skip
    return queue.add("import", argv, run=name, title=f"import {path.name}")


def belonging(where: Places, config: str) -> str:
    """What `jaxseg.load` takes as the config of a file: that of a run, or an experiment.

    Raises:
      UserError: there is neither.
    """
    try:
        return launcher.argument(str(runs.folder_of(where.runs, config)))
    except Missing:
        if config.partition(":")[0] not in presets.names():
            raise UserError(f"{config} is neither a run nor an experiment") from None
        recipes.settings(*config.partition(":")[::2])
        return config


def begin_export(where: Places, queue: jobs.Queue, name: str, form: dict[str, Any]) -> dict:
    """Queues the export of a run's network into its folder `export`."""
    folder = runs.folder_of(where.runs, name)
    kind = pages_jobs.text(form, "format", "jax")
    step = pages_jobs.text(form, "step", "best")
    if kind not in FORMATS:
        raise UserError(f"format is one of {', '.join(FORMATS)}")
    output = folder / "export" / f"{step}{FORMATS[kind]}"
    argv = launcher.export(str(folder), folder, kind, output, new_name(step))
    return queue.add("export", argv, run=f"export/{name}", title=f"export {name} as {kind}")


def exports(where: Places, name: str) -> list[str]:
    """The exported files of a run."""
    try:
        files = os.listdir(where.runs / name / "export")
    except OSError:
        return []
    return sorted(f for f in files if f.endswith(tuple(FORMATS.values())))

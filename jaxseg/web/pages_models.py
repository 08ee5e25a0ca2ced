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
from jaxseg.web import catalogue, datasets, jobs, launcher, pages_jobs, pages_try, recipes, runs
from jaxseg.web.places import Places, new_name, within

FORMATS = {"jax": ".npz", "onnx": ".onnx"}


def routes(where: Places, queue: jobs.Queue) -> list[Route]:
    """The routes below /api/models, and the export of a run."""

    def index(request: Request) -> Response:
        trained = [pages_try.network_choices(where, r["name"]) | {
            k: r[k] for k in ("method", "data", "network", "miou", "changed")
        } for r in runs.listed(where.runs)]  # fmt: skip
        files = datasets.folders(where)["weights"]
        own = [{"path": f, "bytes": (where.data / f).stat().st_size} for f in files]
        return JSONResponse({
            "trained": [t | {"exports": exports(where, t["name"])} for t in trained if t["steps"]],
            "offered": catalogue.offered(files), "files": own, "top": str(where.data),
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


def weights(where: Places, relative: str) -> Path:
    """A weights file within the data's folder; UserError for anything else."""
    path = within(where.data, relative)
    if not path.is_file() or path.suffix not in catalogue.SUFFIXES:
        raise UserError(f"{relative} is no weights file ({', '.join(catalogue.SUFFIXES)})")
    return path


def begin_import(where: Places, queue: jobs.Queue, form: dict[str, Any]) -> dict:
    """Queues the import of a weights file.

    Args:
      form: path, of the file within the data's folder; name, of the new run folder; config, as
        'advent:streets', or '' for a published network, which is recognised.
    """
    path = weights(where, pages_jobs.text(form, "path"))
    name, config = new_name(pages_jobs.text(form, "name")), pages_jobs.text(form, "config")
    if (where.runs / name).exists():
        raise UserError(f"there is a folder {name} already: give another name")
    if config:
        recipes.settings(*config.partition(":")[::2])
    argv = [sys.executable, "-u", "-m", "jaxseg.web.importing", str(path), config,
            str(where.runs / name)]  # fmt: skip
    return queue.add("import", argv, run=name, title=f"import {path.name}")


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

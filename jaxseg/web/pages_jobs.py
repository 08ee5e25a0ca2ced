"""The answers about training: what can be chosen, starting, stopping, resuming, and the queue."""

import json
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jaxseg.errors import UserError
from jaxseg.experiment import presets
from jaxseg.web import datasets, extension, guard, jobs, launcher, places, recipes, runs
from jaxseg.web.places import Places, new_name

LIMIT = 1 << 20  # bytes of a form
MOST_STEPS = 1_000_000_000


async def form(request: Request) -> dict[str, Any]:
    """The JSON object of a request's body; UserError if it is none."""
    data = await guard.body(request, LIMIT)
    try:
        content = json.loads(data or b"{}")
    except ValueError as error:
        raise UserError(f"the request is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError("the request is no JSON object")
    return content


def text(content: dict[str, Any], key: str, default: str = "") -> str:
    """A text of a form; UserError if it is something else."""
    value = content.get(key, default)
    if not isinstance(value, str):
        raise UserError(f"{key} is a text")
    return value


def routes(where: Places, queue: jobs.Queue) -> list[Route]:
    """The routes of /api/configs and /api/jobs, and those of /api/runs that start something."""

    def configs(request: Request) -> Response:
        return JSONResponse({"configs": recipes.listed()})

    def config(request: Request) -> Response:
        name, preset = request.path_params["name"], request.query_params.get("preset", "")
        return JSONResponse({"settings": recipes.settings(name, preset)})

    def choices(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in presets.names():
            raise places.Missing(f"there is no experiment {name!r}")
        return JSONResponse({"presets": presets.accepted(name)})

    def index(request: Request) -> Response:
        return JSONResponse({"jobs": queue.jobs()[:100]})

    def count(request: Request) -> Response:
        states = [job["state"] for job in queue.jobs()]
        running = states.count("running") + states.count("stopping")
        return JSONResponse({"running": running, "queued": states.count("queued")})

    def one(request: Request) -> Response:
        return JSONResponse(queue.get(request.path_params["job"]))

    def log(request: Request) -> Response:
        number = request.path_params["job"]
        return JSONResponse({**queue.get(number), "log": queue.log(number)})

    def stop(request: Request) -> Response:
        return JSONResponse(queue.stop(request.path_params["job"]))

    async def begin(request: Request) -> Response:
        content = await form(request)
        return JSONResponse(await run_in_threadpool(start, where, queue, content), 201)

    async def resume(request: Request) -> Response:
        content = await form(request)
        name = request.path_params["name"]
        return JSONResponse(await run_in_threadpool(go_on, where, queue, name, content))

    return [
        Route("/api/configs", configs),
        Route("/api/configs/{name}", config),
        Route("/api/configs/{name}/presets", choices),
        Route("/api/jobs", index),
        Route("/api/jobs/count", count),
        Route("/api/jobs/{job}", one),
        Route("/api/jobs/{job}/log", log),
        Route("/api/jobs/{job}/stop", stop, methods=["POST"]),
        Route("/api/runs", begin, methods=["POST"]),
        Route("/api/runs/{name:path}/resume", resume, methods=["POST"]),
    ]


def start(where: Places, queue: jobs.Queue, content: dict[str, Any]) -> dict:
    """Queues a new training.

    Args:
      content: name of the new run; config ('advent:streets') or clone (the name of a run whose
        settings are taken); settings, a text of overrides.

    Raises:
      UserError: a name that is taken, an unknown config, settings that are none.
    """
    name = new_name(text(content, "name"))
    folder = where.runs / name
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"there is a folder {name} already: give the run another name")
    given = recipes.overrides(text(content, "settings"))
    clone, config = text(content, "clone"), text(content, "config")
    if clone:
        config = str(runs.folder_of(where.runs, clone))
    else:
        recipes.settings(*config.partition(":")[::2])  # refuses what does not exist
        given = data_flags(where, given)
        config = with_data(where, content, where.own / "experiments" / f"{name}.json")
    argv = launcher.train(config, folder, [*given, f"--config.name={name}"])
    return queue.add("train", argv, run=name, title=name)


def with_data(where: Places, content: dict[str, Any], path: Path) -> str:
    """The config of a form; with data sets of one's own, it is written into a file at `path`."""
    config = text(content, "config")
    chosen = {side: text(content, side) for side in ("source", "target")}
    if not any(chosen.values()):
        return config
    own = {side: name and datasets.get(where, name) for side, name in chosen.items()}
    if own["source"] and not own["source"]["labels"]:
        raise UserError(f"{chosen['source']} has no labels, which a source needs")
    places.write_json(path, {"base": config, **{side: d or None for side, d in own.items()}})
    return str(path)


def data_flags(where: Places, given: list[str]) -> list[str]:
    """The settings with the server's own folders of data where none are given."""
    own = {"data.root": str(where.data), "data.records": where.records}
    named = {flag.removeprefix("--config.").partition("=")[0] for flag in given}
    more = [f"--config.{k}={v}" for k, v in own.items() if v and k not in named]
    return [*more, *given]


def go_on(where: Places, queue: jobs.Queue, name: str, content: dict[str, Any]) -> dict:
    """Queues the continuation of a run, to a later step if `content` has steps.

    A run whose learning rate has come down to 0 is continued in a copy of its folder, with a
    schedule that is as much longer: its own schedule cannot be changed.

    Raises:
      UserError: it is being written by another process, or is not a run that can go on.
    """
    folder = runs.folder_of(where.runs, name)
    config = places.read_json(folder / "config.json")
    if config is None:
        raise UserError(f"{name} has no config.json: start it again")
    state = queue.state_of(name)["job_state"]
    if state in jobs.OPEN:
        raise UserError(f"{name} is {state} already: one writer for each folder")
    line = runs.summary(folder, name)
    if state is None and line["live"]:
        raise UserError(
            f"{name} was written to less than {runs.LIVE} seconds ago, perhaps by a training that "
            "was started elsewhere: end that one first, or wait"
        )
    steps, given = content.get("steps"), []
    if steps is not None:
        if not isinstance(steps, int) or not line["step"] < steps <= MOST_STEPS:
            raise UserError(f"give a step after {line['step']}, up to {MOST_STEPS}")
        given = [f"--config.train.steps={steps}"]
        if extension.too_short(config, steps):
            name = new_name(text(content, "name") or f"{folder.name}_to_{steps}")
            folder = extension.prolonged_copy(folder, where.runs / name, config, steps)
    argv = launcher.train(str(folder), folder, given)
    return queue.add("train", argv, run=name, title=name)

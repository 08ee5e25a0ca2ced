"""The web page's server: `python launch.py --mode=web` and `jaxseg web`.

Starlette answers, uvicorn listens, plain JavaScript in `static/` draws; there is no build step, and
no page asks anything of another address. The server is stateless but for the queue of jobs: what
is shown is read from the run folders, so a page may be reloaded and the server restarted at will.
"""

import contextlib
import ipaddress
import secrets
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import jaxseg
from jaxseg.errors import UserError
from jaxseg.web import (
    client,
    guard,
    jobs,
    pages_data,
    pages_jobs,
    pages_models,
    pages_runs,
    pages_try,
)
from jaxseg.web import runs as runs_read
from jaxseg.web.places import Missing, Places

STATIC = Path(__file__).parent / "static"


def make_app(places: Places, queue: jobs.Queue, allowed: guard.Allowed):
    """The ASGI application.

    Args:
      places: the folders it may read and write.
      queue: its jobs; started and closed with the application.
      allowed: who may talk to it.
    """

    networks, browser = client.Worker(), client.Worker()

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        queue.start()
        # The first list of thousands of runs takes a second: it is made before it is asked for.
        threading.Thread(target=runs_read.listed, args=(places.runs,), daemon=True).start()
        yield
        queue.close()
        networks.close()
        browser.close()

    def shell(request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    def about(request: Request) -> Response:
        return JSONResponse({"version": jaxseg.__version__, "runs": str(places.runs)})

    app = Starlette(
        routes=[
            Route("/", shell),
            Route("/api", about),
            *pages_jobs.routes(places, queue),  # before those of runs, whose names hold slashes
            *pages_try.routes(places, networks, queue),
            *pages_data.routes(places, browser, queue),
            *pages_models.routes(places, queue),
            *pages_runs.routes(places, queue),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        lifespan=lifespan,
        exception_handlers={
            Missing: lambda request, error: guard.said(404, str(error)),
            UserError: lambda request, error: guard.said(400, str(error)),
            client.Failed: lambda request, error: guard.said(500, str(error)),
            guard.TooLarge: lambda request, error: guard.said(413, str(error)),
            Exception: lambda request, error: guard.said(
                500, "an error of the server: see its output"
            ),
            HTTPException: lambda request, error: guard.said(error.status_code, error.detail),
        },
    )
    return guard.guarded(app, allowed)


def run(
    *,
    runs: str = "runs",
    port: int = 8000,
    host: str = "127.0.0.1",
    data: str = "data",
    records: str = "",
    parallel: int = 1,
) -> int:
    """Serves until it is interrupted; returns the exit code.

    Args:
      runs: folder of the run folders, created if it does not exist.
      port: to listen on.
      host: address to listen on; any but 127.0.0.1 gets a token, which is printed.
      data: the folder with data sets and weight files to choose from.
      records: folder of the prepared records; '' for the default.
      parallel: jobs that run at the same time.

    Raises:
      UserError: a port that cannot be used, or a folder that another server uses.
    """
    if not 0 < port < 65536:
        raise UserError(f"--port={port}: give a number from 1 to 65535")
    places = Places(Path(runs).expanduser().resolve(), Path(data).expanduser().resolve(), records)
    allowed = _allowed(host)
    queue = jobs.Queue(places.own / "jobs", parallel)
    try:
        config = uvicorn.Config(
            make_app(places, queue, allowed), host=host, port=port, log_level="warning",
            access_log=False, server_header=False, timeout_graceful_shutdown=2,
        )  # fmt: skip
        listening = _listening(host, port)
        name = f"[{host}]" if ":" in host else host
        query = f"?token={allowed.token}" if allowed.token else ""
        print(f"jaxseg: http://{name}:{port}/{query}  (runs in {places.runs}; Ctrl-C ends it)",
              flush=True)  # fmt: skip
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])
    finally:
        queue.close()
    return 0


def _listening(host: str, port: int) -> socket.socket:
    """A socket that takes connections at once, so that the address may be told."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(f"cannot listen on port {port} of {host} ({error.strerror})") from error


def _allowed(host: str) -> guard.Allowed:
    """Local names without a token on 127.0.0.1; a token elsewhere."""
    if host in ("127.0.0.1", "localhost", "::1"):
        return guard.Allowed()
    token = secrets.token_urlsafe(24)
    try:
        everywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        everywhere = False
    named = () if everywhere else (*guard.LOCAL, f"[{host}]" if ":" in host else host)
    return guard.Allowed(named, token)

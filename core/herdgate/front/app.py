"""The Sanic application: it runs the server; every connection belongs to the gateway's own protocol."""

from __future__ import annotations

from typing import Any

from sanic import Request, Sanic
from sanic.config import Config

from herdgate.front.door import Door


def create_app(name: str, door: Door) -> Sanic[Any, Any]:
    """An application whose connections come through this door. `name` must be unique in the process."""
    app: Sanic[Any, Any] = Sanic(name, config=Config(env_prefix=""), configure_logging=False)
    # To touch up is to write the methods of Sanic's own protocol anew, which nobody calls here.
    app.config.update({"ACCESS_LOG": False, "TOUCHUP": False})
    app.ctx.door = door
    app.add_route(_unused, "/")  # Sanic refuses to start without a route
    return app


async def _unused(request: Request) -> None:
    """Never called: requests go from the connection to the pipeline."""

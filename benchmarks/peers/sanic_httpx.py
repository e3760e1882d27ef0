"""The control: a proxy as one would write it first with the same framework and the same client library, as they come.

python sanic_httpx.py PORT BACKEND_URL
"""

import sys
from typing import Any

import httpx
from sanic import HTTPResponse, Request, Sanic, raw

PORT, BACKEND = int(sys.argv[1]), sys.argv[2]
LARGEST_BODY = 100 * 1024 * 1024
HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}

app: Sanic[Any, Any] = Sanic("control")
app.config.update(REQUEST_MAX_SIZE=LARGEST_BODY, RESPONSE_TIMEOUT=600, ACCESS_LOG=False)


@app.before_server_start
async def open_client(app: Sanic[Any, Any]) -> None:
    """One client for all requests; httpx's own limit of 100 connections would queue the rest."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    app.ctx.client = httpx.AsyncClient(base_url=BACKEND, limits=limits, timeout=600)


@app.route("/<path:path>", methods=["GET", "POST"])
async def forward(request: Request, path: str) -> HTTPResponse | None:
    """Pass the request on, and the reply back as it comes."""
    headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
    async with app.ctx.client.stream(request.method, f"/{path}", content=request.body, headers=headers) as reply:
        kind = reply.headers.get("content-type", "")
        if "content-length" in reply.headers:
            return raw(await reply.aread(), status=reply.status_code, content_type=kind)
        response = await request.respond(status=reply.status_code, content_type=kind)
        async for chunk in reply.aiter_raw():
            await response.send(chunk)
        await response.eof()
        return None


app.run("127.0.0.1", PORT, single_process=True, motd=False, backlog=4096)

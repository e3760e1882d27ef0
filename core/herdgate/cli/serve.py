"""`proxyctl serve`: the gateway."""

from __future__ import annotations

import logging
from functools import partial

import click

from herdgate import logs
from herdgate.cli.options import config_option, settings_of
from herdgate.descriptors import fill_standard, raise_limit
from herdgate.listeners import Listeners
from herdgate.listening import listen
from herdgate.process import serve_alone
from herdgate.supervisor import Supervisor


@click.command(name="serve")
@config_option
@click.option("--host", metavar="HOST", help="Address to listen on.")
@click.option("--port", metavar="PORT", help="Port to listen on; 0 lets the system choose one.")
@click.option("--workers", metavar="N", help="Processes that serve.")
@click.pass_context
def command(ctx: click.Context, config: str | None, host: str | None, port: str | None, workers: str | None) -> None:
    """Run the gateway until SIGTERM or Ctrl-C.

    Requests are then taken for `stop_delay` more seconds, and those in flight have `drain` seconds to end; a second
    signal breaks them. SIGHUP reads the configuration anew; if it has a mistake, the present one stays.
    """
    fill_standard()
    raise_limit()
    read = partial(settings_of, config, host=host, port=port, workers=workers)
    settings = read()
    logs.configure(settings)
    for notice in settings.notices:
        logging.getLogger("herdgate").warning("%s", notice)
    server = settings.server
    if server.workers == 1:
        ctx.exit(serve_alone(settings, listen(server.host, server.port), read))
    ctx.exit(Supervisor(settings, Listeners(server.host, server.port, server.workers), read).run())

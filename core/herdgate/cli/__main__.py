"""`python -m herdgate.cli` is `proxyctl`."""

from herdgate.cli import main

main(prog_name="proxyctl")

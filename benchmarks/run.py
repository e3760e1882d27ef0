"""Measure Herdgate side by side with nginx, HAProxy, LiteLLM and a plain Sanic + httpx proxy, on this machine.

README.md beside this file says what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from bench import machine, native, systems
from bench.native import CACHE, NotInstalledError
from bench.phases import FULL, PHASES, QUICK
from bench.recipes import NAMES, comparable
from bench.report import insert, markdown
from bench.results import Results, load
from bench.rounds import Plan, Runner, say
from bench.trouble import TROUBLES
from plot import drawn

DOCS = Path(__file__).parents[1] / "docs"
QUICK_LIMIT = 300.0  # seconds; what was begun before may take some more
NO_LIMIT = 6 * 3600.0


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of short phases, in some 5 minutes")
    parser.add_argument("--rounds", type=int, metavar="N", help="default: 5, with --quick 1")
    parser.add_argument("--systems", metavar="A,B", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--phases", metavar="A,B", help=f"of {', '.join([*PHASES, *TROUBLES])}")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="begin nothing new after this time")
    parser.add_argument("--cores", metavar="P,L", help="for the proxies and for the rest (default: the first two)")
    parser.add_argument("--install-peers", action="store_true", help=f"install LiteLLM {systems.LITELLM} below {CACHE}")
    parser.add_argument("--json", type=Path, metavar="FILE", default=CACHE / "results.json", help="keep results there")
    parser.add_argument("--from", type=Path, metavar="FILE", dest="source", help="measure nothing, report on this JSON")
    parser.add_argument("--publish", action="store_true", help="put tables and picture into docs/performance.*")
    options = parser.parse_args()
    options.systems = comparable(_chosen(parser, options.systems, NAMES))
    options.phases = _chosen(parser, options.phases, [*PHASES, *TROUBLES])
    return options


def _chosen(parser: argparse.ArgumentParser, text: str | None, known: list[str] | tuple[str, ...]) -> list[str]:
    """Those of the known names that were asked for, in the order in which they are known."""
    if text is None:
        return list(known)
    by_key = {name.lower(): name for name in known}
    asked = [word.strip().lower() for word in text.split(",")]
    if unknown := [word for word in asked if word not in by_key]:
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")
    return [name for key, name in by_key.items() if key in asked]


def cores(text: str | None) -> tuple[int, int]:
    """The core of the proxies and that of everything else. Raises NotInstalledError if there are no two."""
    usable = sorted(os.sched_getaffinity(0))
    chosen = [int(word) for word in text.split(",")] if text else usable[:2]
    if len(chosen) != 2 or not set(chosen) <= set(usable) or chosen[0] == chosen[1]:
        raise NotInstalledError(
            f"two cores are needed, one for the proxy and one for everything else; usable here: {usable}"
        )
    return chosen[0], chosen[1]


def check_tools() -> None:
    """Raises NotInstalledError if there is no way to measure here."""
    if platform.system() != "Linux":
        raise NotInstalledError("this benchmark reads /proc: it needs Linux")
    missing = []
    for tool in ("gcc", "wrk", "taskset"):
        try:
            systems.program(tool)
        except NotInstalledError:
            missing.append("util-linux" if tool == "taskset" else tool)
    if missing:
        raise NotInstalledError(f"apt-get install {' '.join(missing)}")
    native.compiled("client")


def measured(options: argparse.Namespace) -> Results:
    """Run the benchmark. Raises NotInstalledError."""
    check_tools()
    pair = cores(options.cores)
    rounds = options.rounds or (1 if options.quick else 5)
    limit = options.limit or (QUICK_LIMIT if options.quick else NO_LIMIT)
    if options.install_peers:
        systems.install_litellm()
    os.sched_setaffinity(0, {pair[1]})
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    extent, attempts = (QUICK, 1) if options.quick else (FULL, 3)
    runner = Runner(Plan(options.systems, options.phases, rounds, extent, pair, attempts, limit))
    done = runner.rounds()
    present = list(dict.fromkeys(name for each in done for name in each))
    settings = {"proxy on core": str(pair[0]), "everything else on core": str(pair[1])}
    if options.quick:
        settings["run with"] = "--quick, which is for a first impression"
    date = time.strftime("%Y-%m-%d")
    return Results(date, machine.description(), machine.versions(present), settings, tuple(runner.notes), done)


def publish(results: Results, docs: Path = DOCS) -> None:
    """Put everything into docs/: the results, the picture, and both it and the tables into the page."""
    results.save(docs / "performance.json")
    (docs / "performance.svg").write_text(drawn(results), "utf-8")
    picture = "![CPU time of each proxy as a multiple of nginx's](performance.svg)"
    insert(docs / "performance.md", f"{picture}\n\n{markdown(results)}")
    say("docs/performance.md, .svg and .json are written")


def _terminated(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    sys.exit(128 + number)


def main() -> None:
    """Measure or read, then report."""
    options = arguments()
    signal.signal(signal.SIGTERM, _terminated)  # so that what was started is stopped
    try:
        results = load(options.source) if options.source else measured(options)
    except NotInstalledError as problem:
        sys.exit(f"run.py: {problem}")
    if not options.source:
        results.save(options.json)
        say(f"kept in {options.json}")
    print(markdown(results))
    if options.publish:
        publish(results)


if __name__ == "__main__":
    main()

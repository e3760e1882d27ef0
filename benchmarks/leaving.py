"""Print how soon it is noticed that a client has left: `make leaving`."""

from __future__ import annotations

import argparse
import logging

from bench.leaving import table
from herdgate.loop import run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=20, help="how often each case is measured (20)")
    repetitions = parser.parse_args().repetitions
    logging.disable(logging.WARNING)
    print("Milliseconds until the backend's connection, the slot and the request had ended: median / worst.\n")
    print(run(table(repetitions)))


if __name__ == "__main__":
    main()

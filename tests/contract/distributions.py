"""Distributions as an installer would leave them, without one: a directory in which Python and Herdgate find them."""

from __future__ import annotations

from pathlib import Path


def dist_info(site: Path, name: str, version: str, entry_point: str) -> None:
    """What tells `importlib.metadata` of a distribution with one plugin."""
    metadata = site / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(f"[herdgate.plugins]\n{entry_point}\n")

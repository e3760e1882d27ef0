"""The files of a new project that are the same for every hook but for the names in them."""

PROJECT = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "{names.distribution}"
version = "0.1.0"
description = "A Herdgate plugin. {about}"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["herdgate>={at_least},<{below}", "pydantic>=2.10"]

# The name before "=" is what `use` in plugins.toml says.
[project.entry-points."herdgate.plugins"]
{names.plugin} = "{names.module}:{names.cls}"

[dependency-groups]
test = ["pytest>=8.4", "pytest-asyncio>=0.25"]

[tool.hatch.build.targets.wheel]
only-include = ["{names.module}.py"]

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["."]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"

[tool.ruff]
line-length = 120
target-version = "py311"

[tool.ruff.lint]
select = ["B", "E", "F", "I", "RUF", "SIM", "UP"]

[tool.mypy]
strict = true
plugins = ["herdgate.mypy_plugin", "pydantic.mypy"]
"""

TESTS = '''\
from __future__ import annotations

from herdgate.testing import {kit}
from herdgate.testing.faults import Status

from {names.module} import {names.cls}


def test_it_is_well_behaved() -> None:
    assert_plugin_is_well_behaved({names.cls})


async def test_requests_are_answered_with_it() -> None:
    """In a gateway with two simulated backends, of which the first one fails once; one request is denied."""
    async with gateway_with({names.cls}{order}) as gateway:
        gateway.backends[0].script("/api/chat", Status(503))
        assert (await gateway.chat()).status_code == 200
        assert (await gateway.chat("no-such-model")).status_code == 403
{asked}        assert not gateway.faults
'''

ASKED = """\
        await until(lambda: bool(gateway.decisions.of("{hook}", "{names.tested}")))
"""
"""For hooks that such requests ask."""

README = """\
# {names.distribution}

A Herdgate plugin. {about}

    pip install .

{place}

```toml
[[plugin]]
use = "{names.plugin}"
{setting}
```

`proxyctl plugins check {names.plugin}` says what is wrong with it, `proxyctl plugins list` shows who is asked in which
order, `proxyctl plugins hooks {hook}` explains the hook.

Tests: `pip install . pytest pytest-asyncio`, then `pytest`.
"""

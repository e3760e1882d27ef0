"""The benchmark works: its programs compile and speak HTTP, its figures are computed and shown as they are meant."""

# ruff: noqa: RUF001 - the report's own signs

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest

from bench import measuring, native
from bench.load import Load, LoadError
from bench.native import PEERS, compiled
from bench.phases import FULL, QUICK
from bench.processes import Disturbance, Program
from bench.recipes import NAMES, comparable, phases_of, prepared
from bench.report import BEGIN, END, inserted, markdown
from bench.results import Measurement, Results, load
from bench.systems import MODELS, Place, System, clean_environ, free_port
from bench.trouble import Off
from bench.variants import certificate
from plot import drawn
from run import publish

ROOT = Path(__file__).parents[2]

CORE = min(os.sched_getaffinity(0))

needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="the load programs need gcc")


# the two programs


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs compiled here and now, and nothing left in anybody's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[System]:
    folder = tmp_path / "backend"
    folder.mkdir()
    port = free_port()
    command = [str(compiled("backend")), str(port), "0", "bench-0-0", "bench-5-1"]
    program = Program(command, clean_environ(), CORE, folder)
    try:
        # The port is bound a moment after the start.
        transport = httpx.HTTPTransport(retries=7)
        with httpx.Client(transport=transport) as client:
            client.get(f"http://127.0.0.1:{port}/api/version").raise_for_status()
        yield System("direct", port, folder)
    finally:
        program.stop()


@needs_gcc
def test_the_client_counts_and_times_the_streams_of_the_backend(backend: System, tmp_path: Path) -> None:
    client = Load(tmp_path)
    streams = client.run(backend, client.body("bench-5-1", stream=True), c=3, n=6, x=5, t=10)

    assert (streams.complete, streams.requests, streams.chunks) == (6, 6, 30)
    assert 0 <= streams.lag_p50_us <= streams.lag_p99_us < streams.total_p99_us
    assert 0 < streams.ttft_p50_us < 1e6
    assert streams.total_p50_us >= 4000  # five pauses of a millisecond, the first of which may be short


@needs_gcc
def test_the_client_speaks_both_dialects_and_sends_large_bodies(backend: System, tmp_path: Path) -> None:
    client = Load(tmp_path)
    openai = replace(backend, path="/v1/chat/completions", headers=("Authorization: Bearer x",))
    assert client.run(openai, client.body("bench-5-1", stream=True), c=1, n=1, x=5, t=10).share == 1
    assert client.run(openai, client.body("bench-0-0", stream=False), c=1, n=1, t=10).share == 1
    assert client.run(backend, client.body("bench-0-0", stream=False, padding=3_000_000), c=1, n=2, t=10).share == 1


@needs_gcc
def test_the_backend_says_how_much_has_arrived(backend: System, tmp_path: Path) -> None:
    body = Load(tmp_path).body("bench-0-0", stream=False, padding=1_000_000).read_bytes()
    reply = httpx.post(f"http://127.0.0.1:{backend.port}/api/chat", content=body)
    assert reply.json()["prompt_eval_count"] == len(body)


@needs_gcc
def test_the_client_notices_what_is_missing(backend: System, tmp_path: Path) -> None:
    client = Load(tmp_path)
    short = client.run(backend, client.body("bench-5-1", stream=True), c=1, n=2, x=6, t=10)
    assert (short.complete, short.broken) == (0, 2)

    nobody = replace(backend, port=free_port())
    refused = client.run(nobody, client.body("bench-0-0", stream=False), c=2, n=4, t=10)
    assert (refused.complete, refused.broken) == (0, 4)

    slow = client.run(backend, client.body("bench-5-1000", stream=True), c=1, n=2, x=5, t=0.2)
    assert (slow.complete, slow.unfinished) == (0, 2)


@needs_gcc
def test_requests_start_at_the_rate_that_was_asked_for(backend: System, tmp_path: Path) -> None:
    client = Load(tmp_path)
    replies = client.run(backend, client.body("bench-0-0", stream=False), c=4, n=20, r=100, t=10)
    assert replies.complete == 20
    assert replies.seconds >= 0.19


def test_a_machine_that_is_off_says_neither_yes_nor_no() -> None:
    with Off(port := free_port()), pytest.raises(TimeoutError):
        socket.create_connection(("127.0.0.1", port), timeout=0.2)


# processes


def test_the_cpu_time_of_a_program_is_its_own_and_nobody_else_s(tmp_path: Path) -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass\nprint('done', flush=True)\ntime.sleep(60)"
    program = Program([sys.executable, "-c", busy], clean_environ(), CORE, tmp_path)
    try:
        watch = Disturbance([program])
        while "done" not in program.log.read_text():
            assert program.exit_status is None
        watch.end()
        assert 0.25 < watch.cpu[0] < 0.6
        assert program.memory_mb() > 1
    finally:
        program.stop()
    assert program.exit_status is not None


def test_a_phase_that_failed_or_was_cut_off_is_not_repeated() -> None:
    made = []

    def fails() -> dict[str, float]:
        made.append(1)
        raise LoadError("12 errors")

    failed = measuring.measured(measuring.Work(fails, None, []), attempts=1)
    assert (failed.error, failed.figures, failed.overrun, len(made)) == ("12 errors", {}, True, 1)
    assert measured(complete=0.99).overrun
    assert not measured(complete=1.0).overrun
    assert not measured(requests=1.0).overrun


def test_a_failure_of_a_program_that_has_ended_says_so(tmp_path: Path) -> None:
    program = Program([sys.executable, "-c", "raise SystemExit(3)"], clean_environ(), CORE, tmp_path)

    def fails() -> dict[str, float]:
        while program.exit_status is None:
            pass
        raise LoadError("no reply")

    failed = measuring.measured(measuring.Work(fails, program, []), attempts=1)
    program.stop()
    assert failed.error == "its process has ended with status 3; no reply"


# the peers


def test_the_files_of_the_peers_have_no_gaps(tmp_path: Path) -> None:
    extra = {
        "nginx.conf": {"user": "", "protocol": "http", "encryption": ""},
        "haproxy.cfg": {},
        "litellm.yaml": {"models": "[]", "key": "k"},
        "tls.cfg": {"certificate": "c"},
    }
    assert set(extra) == {path.name for path in PEERS.iterdir() if path.suffix in (".conf", ".cfg", ".yaml")}
    for name, values in extra.items():
        text = Path(Place(tmp_path, 1111, 2222).write(name, **values)).read_text()
        assert "$" not in text
        assert ("1111" in text and "2222" in text) or name == "litellm.yaml"


Start = Callable[[str], tuple[System, Program]]


@pytest.fixture
def started(backend: System, tmp_path: Path) -> Iterator[Start]:
    """Start one of NAMES in front of the backend, and what stands between the two."""
    programs: list[Program] = []

    def start(name: str) -> tuple[System, Program]:
        system = prepared(name, tmp_path, backend.port)
        commands = (*system.beside, system.command)
        programs.extend(Program(command, system.environ, CORE, system.folder) for command in commands)
        return system, programs[-1]

    yield start
    for program in programs:
        program.stop()


def answered(system: System, *headers: str, ends: tuple[int, ...] = (200, 401)) -> int:
    """The status of a reply with these headers, as soon as the gateway knows its models."""
    url, end, status = f"http://127.0.0.1:{system.port}{system.path}", time.monotonic() + 20, 0
    with httpx.Client(trust_env=False, headers=dict(header.split(": ") for header in headers)) as client:
        while status not in ends and time.monotonic() < end:
            with suppress(httpx.TransportError):
                status = client.post(url, json={"model": "bench-0-0", "messages": []}).status_code
            time.sleep(0.02)
    return status


@needs_gcc
def test_the_variant_with_a_key_serves_nobody_without_it(started: Start) -> None:
    system, _ = started("Herdgate + key")
    assert answered(system, *system.headers) == 200
    assert answered(system) == 401
    assert answered(system, system.headers[0] + "x") == 401


@needs_gcc
@pytest.mark.skipif(not all(map(shutil.which, ("haproxy", "openssl"))), reason="they make and end the TLS")
def test_the_variant_with_tls_checks_the_certificate_of_its_backend(started: Start) -> None:
    system, _ = started("Herdgate + TLS")
    (only,) = json.loads(system.environ["OLLAMA_BACKENDS"])
    assert answered(system) == 200
    assert only.keys() == {"name", "base_url", "ca_file"}
    trusting = ssl.create_default_context(cafile=only["ca_file"])
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT  # as newer Pythons do
    with httpx.Client(trust_env=False, verify=trusting) as client:
        assert client.get(f"{only['base_url']}/api/version").status_code == 200
    with httpx.Client(trust_env=False) as client, pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        client.get(f"{only['base_url']}/api/version")


@needs_gcc
@pytest.mark.skipif(not all(map(shutil.which, ("haproxy", "openssl"))), reason="they make and end the TLS")
def test_nginx_checks_that_certificate_too(started: Start) -> None:
    system, program = started("nginx + TLS")
    assert answered(system) == 200
    program.stop()
    certificate(system.folder)  # another one than HAProxy has
    program = Program(system.command, system.environ, CORE, system.folder)
    try:
        assert answered(system, ends=(200, 502)) == 502
    finally:
        program.stop()


@needs_gcc
def test_the_variant_with_two_workers_counts_them_all(started: Start) -> None:
    system, program = started("Herdgate + worker")
    assert answered(system) == 200
    assert len({thread.split("/")[0] for thread in program.cpu().threads}) == 3  # the supervisor and two workers


def test_a_variant_is_never_measured_without_what_it_is_compared_with() -> None:
    assert comparable(["Herdgate + TLS"]) == ["Herdgate", "Herdgate + TLS"]
    assert comparable(["nginx + TLS"]) == ["nginx", "nginx + TLS"]
    assert comparable(["nginx", "direct"]) == ["direct", "nginx"]
    assert comparable(NAMES) == list(NAMES)
    assert set(phases_of("Herdgate + TLS")) == {"c32", "p200"} < set(phases_of("Herdgate"))


@pytest.mark.parametrize("extent", [FULL, QUICK])
def test_every_system_knows_the_models_of_the_phases(extent: Any) -> None:
    assert f"bench-{extent.chunks}-20" in MODELS


# figures and report


def measured(foreign: float = 0.0, **figures: float) -> Measurement:
    return Measurement(figures, foreign)


RESULTS = Results(
    date="2026-01-02",
    machine="A Processor, 2 CPUs",
    versions={"nginx": "1.22.1", "Herdgate": "0.1.0"},
    settings={"proxy on core": "0"},
    notes=("HAProxy was left out: haproxy is not installed",),
    rounds=(
        {
            "direct": {"c32": measured(rps=200_000.0)},
            "nginx": {"c32": measured(cpu_us=10.0, rps=90_000.0), "p200": measured(cpu_us=10.0, complete=1.0)},
            "LiteLLM": {
                "c32": Measurement({}, error="12 errors, 3 replies"),
                "p200": measured(cpu_us=800.0, complete=0.5),
            },
            "Herdgate": {
                "start": measured(seconds=0.25, memory_mb=40.0),
                "c32": measured(cpu_us=100.0, rps=9_000.0),
                "p200": measured(cpu_us=20.0, complete=1.0, foreign=0.4),
                "calm": measured(requests=1000.0, failures=0.0, p50_ms=0.5, p99_ms=2.0),
                "dead": measured(requests=1000.0, failures=3.0, p50_ms=0.75, p99_ms=4.0),
            },
        },
        {
            "nginx": {"c32": measured(cpu_us=20.0, rps=45_000.0)},
            "Herdgate": {"c32": measured(cpu_us=240.0, rps=4_500.0)},
        },
    ),
)


def row(report: str, label: str) -> list[str]:
    """The cells behind a label."""
    (line,) = [line for line in report.splitlines() if line.startswith(f"| {label} ")]
    return [cell.strip() for cell in line.strip("| ").split("|")][1:]


def test_a_ratio_is_the_median_of_those_within_a_round() -> None:
    assert RESULTS.ratio("Herdgate", "nginx", "c32", "cpu_us") == 11.0
    assert RESULTS.ratio("LiteLLM", "nginx", "c32", "cpu_us") is None
    assert RESULTS.median("Herdgate", "c32", "cpu_us") == 170.0
    assert RESULTS.added("Herdgate", "dead", "calm", "p99_ms") == 2.0


def test_the_report_shows_figures_with_their_ratios_and_their_doubts() -> None:
    report = markdown(RESULTS)

    assert row(report, "Herdgate")[:2] == ["11.0×", "2.0× !"]
    assert row(report, "LiteLLM")[:2] == ["–", "80.0× †"]
    assert row(report, "32 connections: CPU per request, µs") == ["–", "15.0", "failed", "170.0 (11.0×)"]
    assert row(report, "32 connections: requests/s") == ["200,000", "67,500", "failed", "6,750 (0.1×)"]
    assert row(report, "start to the first reply, s")[-1] == "0.25"
    assert "LiteLLM, `c32`, failed: 12 errors, 3 replies" in report
    assert "† LiteLLM, `p200`: 50.0% of the streams" in report
    assert "! 1 of 12 measurements were disturbed" in report
    assert "HAProxy was left out" in report
    assert "2026-01-02, A Processor, 2 CPUs. nginx 1.22.1, Herdgate 0.1.0. Medians of 2 rounds." in report


def test_the_report_shows_what_a_backend_in_trouble_adds() -> None:
    report = markdown(RESULTS)
    assert row(report, "none: all are well") == ["1,000", "0", "0.50", "2.00", "–", "–"]
    assert row(report, "the first one's process is gone") == ["1,000", "3", "0.75", "4.00", "0.25", "2.00"]


def with_variants(*rounds: Mapping[str, Mapping[str, Measurement]]) -> Results:
    """The results with more in each round."""
    pairs = zip(RESULTS.rounds, rounds, strict=True)
    return replace(RESULTS, rounds=tuple({**known, **more} for known, more in pairs))


def test_variants_of_herdgate_are_compared_with_it_in_the_same_round() -> None:
    report = markdown(
        with_variants(
            {
                "Herdgate + key": {"c32": measured(cpu_us=104.0), "p200": measured(cpu_us=20.0, complete=1.0)},
                "Herdgate + TLS": {"c32": measured(cpu_us=112.0), "p200": measured(cpu_us=30.0, complete=0.9)},
                "nginx + TLS": {"c32": measured(cpu_us=15.0)},
                "Herdgate + worker": {"c32": measured(cpu_us=150.0), "p200": Measurement({}, error="no chunk arrived")},
            },
            {"Herdgate + key": {"c32": measured(cpu_us=259.2)}, "Herdgate + TLS": {"c32": measured(cpu_us=264.7)}},
        )
    )
    assert row(report, "a key checked on every request") == ["at most 1.10×", "1.06×", "1.00× !"]
    assert row(report, "TLS towards the backend") == ["at most 1.10×", "1.11× missed", "1.50× missed † !"]
    assert row(report, "nginx, for comparison: TLS towards the backend") == ["–", "1.50×", "–"]
    assert row(report, "two worker processes on one core") == ["–", "1.50×", "failed"]
    assert "Herdgate + worker, `p200`, failed: no chunk arrived" in report


@pytest.mark.parametrize(("cpu_us", "cell"), [(110.4, "1.10×"), (110.6, "1.11× missed")])
def test_a_promise_is_kept_or_missed_by_the_ratio_that_is_shown(cpu_us: float, cell: str) -> None:
    report = markdown(with_variants({"Herdgate + key": {"c32": measured(cpu_us=cpu_us)}}, {}))
    assert row(report, "a key checked on every request") == ["at most 1.10×", cell, "–"]


def test_variants_are_in_their_own_table_alone() -> None:
    results = with_variants({"Herdgate + key": {"c32": measured(cpu_us=104.0, rps=1.0)}}, {})
    assert "Herdgate + key" not in markdown(results)
    assert drawn(results) == drawn(RESULTS)
    assert "promised" not in markdown(RESULTS)


def test_one_command_renders_results_that_were_kept(tmp_path: Path) -> None:
    RESULTS.save(tmp_path / "results.json")
    assert load(tmp_path / "results.json") == RESULTS
    assert json.loads((tmp_path / "results.json").read_text())["medians"]["Herdgate"]["c32"]["cpu_us"] == 170.0

    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--from", "results.json"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    assert (result.returncode, result.stdout.strip()) == (0, markdown(RESULTS).strip()), result.stderr


def test_publishing_fills_the_page_again_and_again(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text((ROOT / "docs" / "performance.md").read_text("utf-8"), "utf-8")

    publish(RESULTS, tmp_path)
    once = page.read_text("utf-8")
    publish(RESULTS, tmp_path)

    assert page.read_text("utf-8") == once
    assert "170.0 (11.0×)" in once
    assert "Not measured yet" not in once
    assert "(performance.svg)" in once
    before, _, rest = once.partition(BEGIN)
    assert before.startswith("# Performance")
    assert "## What is not measured" in rest.partition(END)[2]
    assert load(tmp_path / "performance.json") == RESULTS


@pytest.mark.parametrize("text", ["nothing", f"{BEGIN} only", f"{END} {BEGIN}"])
def test_a_page_without_both_markers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="figures: begin"):
        inserted(text, "report")


def test_the_picture_has_a_bar_for_each_system_but_the_measures(tmp_path: Path) -> None:
    picture = ElementTree.fromstring(drawn(RESULTS))  # noqa: S314 - our own
    texts = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]

    assert [text for text in texts if text in ("Herdgate", "LiteLLM", "direct")] == ["Herdgate", "Herdgate", "LiteLLM"]
    assert {"11.0×", "2.0×", "80.0× †"} <= set(texts)
    assert "a chunk, 1,000 streams" not in texts  # nothing was measured

"""Say at the end which tests did not run and why; under SURESET_REQUIRE_ALL=1 that is a failure."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator

import pytest

#: Skipping is for machines that lack an engine or a browser. Where all of it must be there, as in
#: continuous integration, a skipped test would hide that something is missing.
REQUIRE_ALL = os.environ.get("SURESET_REQUIRE_ALL") == "1"


def reason(report: pytest.CollectReport | pytest.TestReport) -> str:
    """Why a skipped test was skipped."""
    assert isinstance(report.longrepr, tuple)
    return report.longrepr[2].removeprefix("Skipped: ")


def fail_if_skipped(report: pytest.CollectReport | pytest.TestReport) -> None:
    """Turn a skip into a failure where everything must run."""
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.longrepr = f"SURESET_REQUIRE_ALL=1, but this was skipped: {reason(report)}"
        report.outcome = "failed"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Generator[None, None, None]:
    yield
    skipped = Counter(
        (report.nodeid.split("::")[0].rpartition("/")[0], reason(report))
        for report in terminalreporter.stats.get("skipped", [])
    )
    for (folder, why), count in sorted(skipped.items()):
        tests = "test" if count == 1 else "tests"
        terminalreporter.write_line(f"Not run: {count} {tests} of {folder}, because {why}.")

"""What is advised is decided by what is behind a failure, never by its words."""

import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import trio

from edge.config.load import load
from edge.config.model import EdgeConfig, GatewayConfig
from edge.doctor.finding import Report
from edge.doctor.system import look_at_clock, look_at_files, look_at_trust
from edge.doctor.uplinks import tell_skew
from edge.doctor.way import BY_CERTIFICATE, MUTE, NO_NAME, advice_for
from edge.errors import Unavailable
from edge.net.proxy import Proxy, ProxyRefused


def behind(cause: BaseException) -> Unavailable:
    exc = Unavailable("x", "it failed")
    exc.__cause__ = cause
    return exc


def untrusted(code: int) -> ssl.SSLCertVerificationError:
    exc = ssl.SSLCertVerificationError(1, "no")
    exc.verify_code = code
    return exc


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        (untrusted(10), BY_CERTIFICATE[10]),
        (untrusted(9), "is this machine's clock right?"),
        (untrusted(62), "the certificate is for another host"),
        (untrusted(20), "its certificate goes into ca_file"),
        (untrusted(999), "its authority's certificate goes into ca_file"),
        (ssl.SSLError(1, "WRONG_VERSION_NUMBER"), "does it speak TLS there?"),
        (ProxyRefused(Proxy("p", 1), 407), "set them in the proxy's URL"),
        (ProxyRefused(Proxy("p", 1), 403), "ask who runs the proxy"),
        (socket.gaierror(-2, "no"), NO_NAME),
        (trio.TooSlowError(), MUTE),
        (ConnectionRefusedError(111, "no"), "nothing listens there"),
        (OSError(101, "no"), "check the network"),
        (OSError("all attempts failed"), "curl -v"),
        (ExceptionGroup("", [ConnectionRefusedError(111, "no")]), "nothing listens there"),
    ],
)
def test_advice_is_by_the_cause(cause: BaseException, advice: str) -> None:
    assert advice in advice_for(behind(cause))


@pytest.mark.parametrize(("off_s", "said"), [(0, None), (-3600, "3600 s ahead of"), (7200, "7200 s behind")])
def test_a_clock_that_differs_from_the_hubs_is_told(off_s: int, said: str | None) -> None:
    report = Report("uplinks", "x")
    tell_skew(report, {"date": format_datetime(datetime.now(UTC) + timedelta(seconds=off_s), usegmt=True)})
    texts = [found.text for found in report.findings]
    if said is None:
        assert texts == []
    else:
        (text,) = texts
        near = {said, said.replace("3600", "3601"), said.replace("7200", "7199")}
        assert any(each in text for each in near)


@pytest.mark.parametrize("date", ["", "yesterday", "Sat, 28 Nov 2026 07:00:00 -0000"])
def test_a_date_that_is_none_says_nothing(date: str) -> None:
    report = Report("uplinks", "x")
    tell_skew(report, {"date": date} if date else {})
    assert report.findings == []


def test_a_low_limit_of_open_files_is_a_warning_with_the_number_to_set() -> None:
    report = Report("system", "open files")
    look_at_files(report, EdgeConfig(gateway=GatewayConfig(max_connections=1000)), 256)
    (found,) = report.findings
    assert (found.level, found.text) == ("warning", "256 may be open, and as many as 1064 could be needed")
    assert found.advice == "LimitNOFILE=1064 in the unit, or `ulimit -n 1064`"


@pytest.mark.parametrize(("url", "level"), [("https://h/mcp", "problem"), ("http://h/mcp", "warning")])
def test_no_authorities_are_a_problem_only_where_they_are_needed(url: str, level: str) -> None:
    config = load(f'servers.x.url = "{url}"', env={}, read_secret=str, source="c")
    report = Report("system", "trust store")
    look_at_trust(report, config, 0, None)
    (found,) = report.findings
    assert (found.level, found.advice) == (level, "install ca-certificates, or set ca_file")


def test_a_clock_before_this_was_written_is_a_problem() -> None:
    report = Report("system", "clock")
    look_at_clock(report, datetime(1970, 1, 1, tzinfo=UTC))
    (found,) = report.findings
    assert (found.level, found.advice) == ("problem", "set it, and run an NTP client")

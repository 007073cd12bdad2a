"""Who gets cross-origin headers, and which."""

import pytest

from edge.parts.cors import CrossOrigin

PAGE = "https://app.example.com"
ASKS = {"access-control-request-method": "POST"}


def test_a_listed_origin_may_read_the_answer_and_the_session_header() -> None:
    fields = dict(CrossOrigin([PAGE]).fields({"origin": PAGE}))
    assert fields["Access-Control-Allow-Origin"] == PAGE
    assert fields["Access-Control-Expose-Headers"] == "Mcp-Session-Id, Mcp-Protocol-Version"
    assert fields["Vary"] == "Origin"
    assert "Access-Control-Allow-Credentials" not in fields


def test_an_origin_is_compared_without_regard_to_case_and_echoed_as_it_came() -> None:
    origin = "HTTPS://App.Example.Com"
    assert dict(CrossOrigin([PAGE]).fields({"origin": origin}))["Access-Control-Allow-Origin"] == origin


@pytest.mark.parametrize(
    "headers", [{}, {"origin": "https://example.com"}, {"origin": "null"}, {"origin": "*"}]
)
def test_any_other_origin_gets_none(headers: dict[str, str]) -> None:
    cross_origin = CrossOrigin([PAGE])
    assert cross_origin.fields(headers) == ()
    assert cross_origin.preflight(headers | ASKS) is None


def test_a_preflight_is_told_methods_headers_and_how_long_that_holds() -> None:
    fields = dict(CrossOrigin([PAGE]).preflight({"origin": PAGE} | ASKS) or ())
    assert fields["Access-Control-Allow-Methods"] == "POST, GET, DELETE"
    allowed = fields["Access-Control-Allow-Headers"].split(", ")
    assert {"Content-Type", "Mcp-Session-Id", "Mcp-Protocol-Version", "Last-Event-ID"} <= set(allowed)
    assert fields["Access-Control-Max-Age"] == "600"


def test_an_options_request_that_is_no_preflight_gets_none() -> None:
    assert CrossOrigin([PAGE]).preflight({"origin": PAGE}) is None

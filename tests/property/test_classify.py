"""Whatever is posted: one verdict, never an exception, and the rules that hold for all of it."""

from hypothesis import given
from hypothesis import strategies as st

from edge.proto.classify import Ignored, Initialize, InSession, Refused, Sessionless, classify
from edge.proto.jsonrpc import Message, Notification, Request, Response
from edge.proto.jsontext import Raw, dumps, parse
from edge.proto.mcp import LEGACY_VERSIONS, METHODS

meta = (
    st.none()
    | st.integers()
    | st.dictionaries(
        st.sampled_from(["progressToken", "io.modelcontextprotocol/protocolVersion"]),
        st.none() | st.integers() | st.text() | st.just("2026-07-28"),
    )
)
params = st.none() | st.fixed_dictionaries({}, optional={"_meta": meta}).map(
    lambda value: parse(dumps(value))
)
methods = st.sampled_from(sorted(METHODS)) | st.text()
messages = st.one_of(
    st.builds(Request, st.just("1"), methods, params),
    st.builds(Notification, methods, params),
    st.just(Response("1", Raw("{}", {}), None)),
)
sessions = st.sampled_from([(False, None), (True, None), *((True, version) for version in LEGACY_VERSIONS)])
headers = st.none() | st.sampled_from([*LEGACY_VERSIONS, "2026-07-28"]) | st.text()


@given(messages | st.lists(messages, min_size=1), sessions, headers)
def test_every_post_gets_a_verdict_that_fits_it(
    message: Message | list[Message], session: tuple[bool, str | None], header: str | None
) -> None:
    named, version = session
    verdict = classify(message, session_named=named, session_version=version, version_header=header)
    match verdict:
        case Initialize(request):
            assert request is message
            assert request.method == "initialize"
        case InSession(inner):
            assert inner is message
            assert version is not None
            assert header is None or header in LEGACY_VERSIONS
            assert not isinstance(message, list) or version == "2025-03-26"
        case Sessionless(request, spoken):
            assert request is message
            assert not named
            assert spoken == (header or "2025-03-26")
            assert spoken in LEGACY_VERSIONS
        case Ignored():
            assert isinstance(message, Notification)
        case Refused():
            assert verdict.code == -32600
            assert verdict.http_status in (400, 404)
            assert (verdict.http_status == 404) <= (named and version is None)
            assert verdict.id == (message.id if isinstance(message, Request) else None)

"""What is advised after a TLS handshake that failed is decided by OpenSSL's codes."""

import ssl

import pytest

from edge.net.dial import CA_ADVICE, PLAIN_ADVICE, advice_for


def untrusted(code: int) -> ssl.SSLCertVerificationError:
    exc = ssl.SSLCertVerificationError(1, "no")
    exc.verify_code = code
    return exc


def broken(reason: str) -> ssl.SSLError:
    exc = ssl.SSLError(1, "no")
    exc.reason = reason
    return exc


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        (untrusted(18), CA_ADVICE),
        (untrusted(20), CA_ADVICE),
        (untrusted(10), ""),  # it has expired: no authority mends that
        (untrusted(62), ""),  # it is for another host
        (broken("WRONG_VERSION_NUMBER"), PLAIN_ADVICE),
        (broken("PACKET_LENGTH_TOO_LONG"), PLAIN_ADVICE),
        (broken("TLSV13_ALERT_CERTIFICATE_REQUIRED"), ""),
        (ConnectionResetError(), ""),
        (None, ""),
    ],
)
def test_only_what_can_be_mended_here_is_advised(cause: BaseException | None, advice: str) -> None:
    assert advice_for(cause) == advice

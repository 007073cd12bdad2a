"""The dates of certificates, read from DER."""

from datetime import UTC, datetime, timedelta

import pytest
import trustme

from edge.doctor.certificates import time_of, validities


def test_a_certificate_tells_from_when_to_when_it_is_good() -> None:
    begins, ends = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(2051, 6, 7, tzinfo=UTC)
    issued = trustme.CA().issue_cert("localhost", not_before=begins, not_after=ends)
    (found,) = validities(issued.cert_chain_pems[0].bytes().decode())
    assert found == (begins, ends)


def test_a_chain_and_what_stands_around_it_is_read() -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    pem = "Bag Attributes: x\n" + issued.private_key_and_cert_chain_pem.bytes().decode()
    found = list(validities(pem + authority.cert_pem.bytes().decode()))
    assert len(found) == 2
    assert all(each.ends - each.begins > timedelta(days=1) for each in found)


def test_no_certificate_is_no_error() -> None:
    assert list(validities("nothing")) == []


@pytest.mark.parametrize(
    "body", ["", "AAAA", "MAA=", "MIIB", "MAMCAQE=", "MAQwAgUA", "!!!!", "MAowCAIBATAAMAAwAA=="]
)
def test_what_is_no_certificate_is_said(body: str) -> None:
    with pytest.raises(ValueError):
        list(validities(f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"))


def test_one_that_does_not_end_is_said() -> None:
    with pytest.raises(ValueError, match="does not end"):
        list(validities("-----BEGIN CERTIFICATE-----\nAAAA"))


def test_years_of_two_digits_are_from_1950_on() -> None:
    assert time_of(0x17, b"491231235959Z").year == 2049
    assert time_of(0x17, b"500101000000Z").year == 1950
    assert time_of(0x18, b"20500101000000Z").year == 2050

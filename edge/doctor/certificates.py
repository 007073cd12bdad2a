"""From when to when the certificates in a PEM file are good: the one thing that the `ssl` module does not tell.

Source: X.690 (DER), RFC 5280, section 4.1: a certificate's `validity`.
"""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

SEQUENCE, UTC_TIME, VERSION = 0x30, 0x17, 0xA0
BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
MAX_CERTIFICATES = 2000


class Validity(NamedTuple):
    """Both ends included."""

    begins: datetime
    ends: datetime


def validities(pem: str) -> Iterator[Validity]:
    """Of each certificate in the text, in its order. Raises: ValueError for one that cannot be read."""
    for part in pem.split(BEGIN)[1 : MAX_CERTIFICATES + 1]:
        body, end, _ = part.partition(END)
        if not end:
            raise ValueError("a certificate does not end")
        yield validity_of(ssl.PEM_cert_to_DER_cert(f"{BEGIN}\n{body.strip()}\n{END}"))


def validity_of(der: bytes) -> Validity:
    """Raises: ValueError."""
    (_, certificate), *_ = elements(der)
    (_, signed), *_ = elements(certificate)
    fields = [(tag, value) for tag, value in elements(signed) if tag != VERSION]
    # serial number, signature algorithm, issuer, validity, subject, ...
    if len(fields) < 4 or fields[3][0] != SEQUENCE:
        raise ValueError("no certificate")
    times = [time_of(tag, value) for tag, value in elements(fields[3][1])]
    if len(times) != 2:
        raise ValueError("no certificate")
    return Validity(*times)


def elements(data: bytes) -> list[tuple[int, bytes]]:
    """Tags and contents of the values that follow each other in `data`."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            raise ValueError("no DER")
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            n_bytes = length & 0x7F
            length = int.from_bytes(data[at : at + n_bytes], "big")
            at += n_bytes
        if at + length > len(data):
            raise ValueError("no DER")
        found.append((tag, data[at : at + length]))
        at += length
    if not found:
        raise ValueError("no DER")
    return found


def time_of(tag: int, value: bytes) -> datetime:
    text = value.decode("ascii")
    form = "%y%m%d%H%M%SZ" if tag == UTC_TIME else "%Y%m%d%H%M%SZ"  # two digits: 1950 to 2049, below
    at = datetime.strptime(text, form).replace(tzinfo=UTC)
    return at.replace(year=at.year - 100) if tag == UTC_TIME and at.year >= 2050 else at

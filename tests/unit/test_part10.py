"""What a hostile file may cost: a deflated data set is never inflated without a limit."""

from io import BytesIO

import pytest
from photographs import encoded, photograph, skin
from pydicom import dcmwrite
from pydicom.uid import DeflatedExplicitVRLittleEndian

from gateway import part10
from gateway.errors import Refused


def deflated(preamble: bytes) -> bytes:
    ds = encoded(photograph(skin()), DeflatedExplicitVRLittleEndian)
    ds.preamble = preamble
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


DECOY = b"\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0"


@pytest.mark.parametrize("preamble", [bytes(128), DECOY + bytes(128 - len(DECOY))])
def test_what_would_inflate_beyond_the_limit_is_refused(
    monkeypatch: pytest.MonkeyPatch, preamble: bytes
) -> None:
    file = deflated(preamble)
    assert part10.read(file).Rows
    monkeypatch.setattr(part10, "INFLATED_BYTES", 1000)
    with pytest.raises(Refused) as refused:
        part10.read(file)
    assert refused.value.reason == "size"

"""The pixels as they are stored: their description checked, decoded by pydicom's plugins, encoded without
loss.

Everything pydicom or a codec raises is translated here. A coded image must say of itself what the data set
says of it before a decoder may run: a header that claims a larger picture would be decoded into memory nobody
set aside.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from struct import unpack
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import DataElement, Dataset
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate, generate_fragments, generate_frames, parse_basic_offsets
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import UID, JPEGLSLossless, JPEGLSNearLossless, RLELossless
from rle.rle import decode_segment

from gateway import codestream
from gateway.errors import Held
from gateway.part10 import quiet

Native = NDArray[Any]
"""Samples as stored, integers of 8, 16 or 32 bits: (F, H, W, 3) for colour, (F, H, W) for grey; single bits
as uint8."""

_JPEG_LS = frozenset({JPEGLSLossless, JPEGLSNearLossless})
_FRAMES, _PIXEL_DATA = 0x00280008, 0x7FE00010
_ITEM = b"\xfe\xff\x00\xe0"
_WORDS = {"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}
_SCALE = 22
_HALF = (1 << (_SCALE - 1)) + 64  # a little more than a half: the factors below are rounded, and halves go up
_RED, _BLUE = (round(factor * (1 << _SCALE)) for factor in (1.402, 1.772))
_GREEN_B, _GREEN_R = (round(f * (1 << _SCALE)) for f in (0.114 * 1.772 / 0.587, 0.299 * 1.402 / 0.587))
_CHUNK = 1 << 15
_PHOTOMETRIC = {
    1: frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"}),
    3: frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"}),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """The Image Pixel module of an object (PS3.3 C.7.6.3), checked."""

    frames: int
    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    signed: bool
    photometric: str
    syntax: UID

    @classmethod
    def of(cls, ds: Dataset) -> "Layout":
        """The description of an object's pixels.

        Raises
        ------
        Held
            ``pixels``: it is incomplete, contradicts itself, or is not treated here.
        """
        try:
            layout = cls(
                frames=int(_text(ds, _FRAMES) or 1) if _FRAMES in ds else 1,
                rows=_number(ds, 0x00280010),
                columns=_number(ds, 0x00280011),
                samples=_number(ds, 0x00280002),
                allocated=_number(ds, 0x00280100),
                stored=_number(ds, 0x00280101),
                signed=bool(_number(ds, 0x00280103)),
                photometric=_text(ds, 0x00280004),
                syntax=UID(_text(ds.file_meta, 0x00020010)),
            )
            high_bit = _number(ds, 0x00280102)
        except Exception as error:
            raise Held("pixels", "the description of the pixels is incomplete") from error
        if not (layout.frames > 0 and layout.rows > 0 and layout.columns > 0):
            raise Held("pixels", "the picture has no size")
        if layout.photometric not in _PHOTOMETRIC.get(layout.samples, frozenset()):
            raise Held("pixels", "the colour model does not fit the number of samples, or is not known")
        allowed = {8, 16} if layout.samples == 3 else {1, 8, 16, 32}
        if layout.allocated not in allowed or not 1 <= layout.stored <= layout.allocated:
            raise Held("pixels", "samples have a number of bits that is not treated here")
        if high_bit != layout.stored - 1 or (layout.signed and layout.samples == 3):
            raise Held("pixels", "the bits of a sample are not where they are expected")
        return layout

    @property
    def size_bytes(self) -> int:
        """Length of the decoded samples; single bits take a byte each."""
        return self.frames * self.rows * self.columns * self.samples * max(self.allocated // 8, 1)

    @property
    def native_bytes(self) -> int:
        """Length of the samples where they are stored without compression (PS3.5 8.1.1, 8.2)."""
        if self.allocated == 1:
            return (self.size_bytes + 7) // 8
        return self.size_bytes // 3 * 2 if self.photometric == "YBR_FULL_422" else self.size_bytes

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of one decoded sample."""
        return np.dtype(f"{'i' if self.signed else 'u'}{max(self.allocated // 8, 1)}")

    @property
    def colours(self) -> str:
        """What decoded samples mean: colour is RGB then, whatever it was."""
        return "RGB" if self.samples == 3 else self.photometric


def _number(ds: Dataset, tag: int) -> int:
    """One value of VR US; an element that was not looked at yet stays as it was read."""
    element: DataElement | RawDataElement = ds.get_item(tag)
    if isinstance(element, RawDataElement):
        (number,) = unpack("<H" if element.is_little_endian else ">H", element.value or b"")
        return int(number)
    return int(ds[tag].value)


def _text(ds: Dataset, tag: int) -> str:
    element: DataElement | RawDataElement = ds.get_item(tag)
    if isinstance(element, RawDataElement):
        return str((element.value or b"").decode("ascii")).strip(" \0")
    value = ds[tag].value
    return "" if value is None else str(value)


def stored_bytes(ds: Dataset) -> bytes:
    """The value of Pixel Data; empty where there is none."""
    element = ds.get_item(_PIXEL_DATA) if _PIXEL_DATA in ds else None
    return b"" if element is None or element.value is None else element.value


def read(ds: Dataset, layout: Layout) -> Native:
    """All frames decoded: colour as RGB whatever it was, grey and palette indices as stored.

    Raises
    ------
    Held
        ``pixels``: undecodable, or the coded images and their description disagree.
    """
    if layout.syntax.is_encapsulated:
        _check_coded(ds, layout)
    options: Any = {"allow_excess_frames": False, "as_rgb": False}  # a hidden extra frame would leave unseen
    if layout.syntax in _JPEG_LS:
        options["decoding_plugin"] = "pyjpegls"  # four times as fast as what pydicom would take
    try:
        with quiet():
            pixels, properties = get_decoder(layout.syntax).as_array(ds, raw=False, **options)
    except Exception as error:
        raise Held("pixels", f"the pixels cannot be decoded ({type(error).__name__})") from error
    shape = (layout.frames, layout.rows, layout.columns) + ((3,) if layout.samples == 3 else ())
    if pixels.size != np.prod(shape, dtype=np.int64):
        raise Held("pixels", "the decoded pixels do not have the size that is stated")
    colours = properties["photometric_interpretation"]
    if layout.samples == 3 and colours not in {"RGB", "YBR_FULL", "YBR_FULL_422"}:
        raise Held("pixels", "the colours cannot be converted to RGB")
    wanted = layout.dtype
    if pixels.dtype.newbyteorder("=") != wanted:
        raise Held("pixels", "the decoded samples do not have the depth that is stated")
    native: Native = np.ascontiguousarray(pixels.reshape(shape), dtype=wanted)
    if layout.samples == 1 or colours == "RGB":
        return native
    if layout.allocated != 8:
        raise Held("pixels", "only 8-bit luminance and chrominance can be converted to RGB")
    return rgb_from_ybr(native)


def rgb_from_ybr(ybr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """YBR_FULL as RGB, both uint8 (…, 3) (PS3.3 C.7.6.3.1.2, ITU-T T.871 clause 7).

    The exact result rounded to the nearest, halves up, for every one of the 2²⁴ colours; integers, because floating
    point takes eight times as long and misses some.
    """
    flat = np.ascontiguousarray(ybr).reshape(-1, 3)
    rgb = np.empty_like(flat)
    for start in range(0, len(flat), _CHUNK):  # what a core keeps at hand
        y, cb, cr = flat[start : start + _CHUNK].T.astype(np.int32)
        y <<= _SCALE
        y += _HALF
        cb -= 128
        cr -= 128
        channels = (y + _RED * cr, y - _GREEN_B * cb - _GREEN_R * cr, y + _BLUE * cb)
        for index, channel in enumerate(channels):
            rgb[start : start + _CHUNK, index] = np.clip(channel >> _SCALE, 0, 255)
    return rgb.reshape(ybr.shape)


def coded_frames(ds: Dataset, layout: Layout) -> list[bytes]:
    """One coded image per frame, its fragments joined.

    Raises
    ------
    Held
        ``pixels``: there are not as many as the data set says.
    """
    data = stored_bytes(ds)
    if layout.frames == 1 and (only := only_fragment(data)) is not None:
        return [only]
    try:
        with quiet():
            frames = list(generate_frames(data, number_of_frames=layout.frames))
    except Exception as error:
        raise Held("pixels", f"the coded frames cannot be told apart ({type(error).__name__})") from error
    if len(frames) != layout.frames:
        raise Held("pixels", "the number of coded frames is not the number that is stated")
    return frames


def only_fragment(pixel_data: bytes) -> bytes | None:
    """The coded image of pixels that hold one, in one fragment, behind a table of at most one offset (PS3.5 A.4)."""
    if len(pixel_data) < 16 or pixel_data[:4] != _ITEM:
        return None
    table = int.from_bytes(pixel_data[4:8], "little")
    start = 16 + table
    if (
        table not in {0, 4}
        or pixel_data[8 : 8 + table].strip(b"\0")
        or pixel_data[start - 8 : start - 4] != _ITEM
    ):
        return None
    length = int.from_bytes(pixel_data[start - 4 : start], "little")
    return pixel_data[start:] if len(pixel_data) == start + length else None


def _check_coded(ds: Dataset, layout: Layout) -> None:
    """Coded images must say of themselves what the data set says of them."""
    if layout.syntax == RLELossless:
        coded_frames(ds, layout)
        return
    for frame in coded_frames(ds, layout):
        try:
            shape = codestream.shape(frame)
        except codestream.BrokenImageError as error:
            raise Held("pixels", "a coded frame has no readable header") from error
        if (shape.rows, shape.columns, shape.samples) != (layout.rows, layout.columns, layout.samples):
            raise Held("pixels", "a coded frame has another size than is stated")
        if shape.precision > layout.allocated:
            raise Held("pixels", "a coded frame has deeper samples than is stated")


def foreign(frame: bytes, layout: Layout) -> bool:
    """Whether a coded frame holds anything beside its image, or cannot be taken apart."""
    return _beside_rle(frame, layout) if layout.syntax == RLELossless else codestream.foreign(frame)


def _beside_rle(frame: bytes, layout: Layout) -> bool:
    """Whether the header holds more than offsets in use, or a segment more than its pixels (PS3.5 G.3, G.5)."""
    if len(frame) < 64:
        return True
    number, *offsets = unpack("<16I", frame[:64])
    starts, unused = offsets[:number], offsets[number:]
    if number != layout.samples * layout.dtype.itemsize or starts[:1] != [64] or any(unused):
        return True
    try:
        return any(
            len(decode_segment(frame[start:end])) != layout.rows * layout.columns
            for start, end in zip(starts, [*starts[1:], len(frame)], strict=True)
        )
    except ValueError:
        return True


def bare(ds: Dataset, layout: Layout) -> bytes:
    """Little endian samples as stored, without what follows the last, and with nothing in the bits beside them.

    Those bits may hold an old overlay (PS3.5 8.1.2).

    Raises
    ------
    Held
        ``pixels``: there are fewer samples than are stated, or none.
    """
    data = stored_bytes(ds)
    if len(data) < layout.native_bytes:
        raise Held("pixels", "there are fewer pixels than are stated")
    if data[layout.native_bytes :].strip(b"\0") or len(data) > layout.native_bytes + layout.native_bytes % 2:
        data = data[: layout.native_bytes]
    spare = layout.allocated - layout.stored
    if not spare:
        return data
    samples = np.frombuffer(data[: layout.native_bytes], dtype=layout.dtype.newbyteorder("<"))
    return ((samples << spare) >> spare).tobytes()


def packed(ds: Dataset, native: Native) -> bytes:
    """All frames little endian, without compression."""
    if ds.BitsAllocated == 1:
        return np.packbits(
            native.ravel(), bitorder="little"
        ).tobytes()  # PS3.5 8.1.1: the first is the lowest
    return native.astype(native.dtype.newbyteorder("<"), copy=False).tobytes()


def tidy(pixel_data: bytes, frames: int) -> bool:
    """Whether the fragments hold nothing but images: even lengths, an offset table of its own size."""
    if frames == 1 and (only := only_fragment(pixel_data)) is not None:
        return len(only) % 2 == 0
    return len(parse_basic_offsets(pixel_data)) in {0, frames} and not any(
        len(fragment) % 2 for fragment in generate_fragments(pixel_data)
    )


def coded(ds: Dataset, native: Native, syntax: UID) -> bytes | None:
    """All frames in a lossless syntax, encapsulated; ``None`` where its encoder cannot write such pixels.

    Samples of fewer than 8 bits are not coded: DCMTK reads no such JPEG-LS.
    """
    if ds.BitsStored < 8:
        return None
    properties = {
        "rows": ds.Rows,
        "columns": ds.Columns,
        "number_of_frames": 1,
        "samples_per_pixel": ds.SamplesPerPixel,
        "bits_allocated": ds.BitsAllocated,
        "bits_stored": ds.BitsStored,
        "pixel_representation": ds.PixelRepresentation,
        "photometric_interpretation": ds.PhotometricInterpretation,
        **({"planar_configuration": 0} if ds.SamplesPerPixel == 3 else {}),
    }
    try:
        with quiet():
            encoder = get_encoder(syntax)
            return encapsulate([encoder.encode(frame, **properties) for frame in native])
    except Exception:  # noqa: BLE001  the next syntax is tried; the last one needs no encoder
        return None


def little_endian(ds: Dataset) -> None:
    """Turns round the words of binary values that were read from big endian, the pixels apart (PS3.5 7.3).

    pydicom carries such values as the bytes they were, and would write them as they are.
    """
    for element in ds.iterall():
        size = _WORDS.get(element.VR)
        if size and element.value and element.tag != _PIXEL_DATA:
            words = np.frombuffer(element.value, dtype=f"<u{size}")
            element.value = words.byteswap().tobytes()


def put(ds: Dataset, data: bytes, syntax: UID, allocated: int) -> None:
    """Sets pixel data and transfer syntax, with the VR and even length they ask for (PS3.5 A.4, 8.1.1)."""
    encapsulated = syntax.is_encapsulated
    ds.file_meta.TransferSyntaxUID = syntax
    ds.add_new(
        "PixelData",
        "OB" if encapsulated or allocated <= 8 else "OW",
        data if len(data) % 2 == 0 else data + b"\0",
    )
    ds["PixelData"].is_undefined_length = encapsulated


def forget(ds: Dataset, keywords: Iterable[str]) -> None:
    """Removes attributes that are there."""
    for keyword in keywords:
        if keyword in ds:
            del ds[keyword]

"""Dataset ↔ frames: decodes what photographs come in, writes edited frames without loss, keeps unedited coded
bytes.

Shape letters: F frames, H rows, W columns. ``rgb`` is for looking and painting, always uint8 RGB. ``native``
is what is stored again: RGB as decoded (YBR and palettes are RGB by then), or the grey values in their own
range. Only pixels under *hide* change in ``native``; everything else is bit-identical to the decoded
original.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
)

from gateway import codestream, pixels
from gateway.errors import Held, Refused
from gateway.part10 import quiet
from gateway.pixels import Layout, Native

Rgb = NDArray[np.uint8]

LOSSLESS: tuple[str, ...] = (JPEGLSLossless, JPEG2000Lossless, ExplicitVRLittleEndian)
"""What edited frames are written in, best first, where the archive's wishes are not known."""

LIMIT_BYTES = 2**31

_NATIVE_SYNTAXES = frozenset({ExplicitVRLittleEndian, ImplicitVRLittleEndian})
_LOSSY_METHODS = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}
_STALE = (
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
)
_PALETTE = tuple(
    f"{prefix}{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for prefix, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
)


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """The decoded pixels of one object.

    Attributes
    ----------
    rgb
        uint8 (F, H, W, 3), for looking and painting.
    native
        (F, H, W, 3) for colour, (F, H, W) for grey, in the range of ``bits_stored``. Shares memory with
        ``rgb`` where both are the same.
    photometric
        ``RGB``, ``MONOCHROME1`` or ``MONOCHROME2``: what ``native`` means.
    bits_stored
        Bits per sample of ``native``.
    low, high
        The grey values shown as 0 and 255 (the other way round in MONOCHROME1).
    """

    rgb: Rgb
    native: Native
    photometric: str
    bits_stored: int
    low: float = 0.0
    high: float = 255.0

    @property
    def count(self) -> int:
        """F, the number of frames."""
        return int(self.rgb.shape[0])


def decode(ds: Dataset, limit_bytes: int = LIMIT_BYTES, like: Frames | None = None) -> Frames:
    """All frames of an object, original or scrubbed.

    Parameters
    ----------
    ds
        With file meta.
    limit_bytes
        The most memory the decoded samples may take.
    like
        Grey values are shown as in these frames, so that before and after can be compared; without it, between the
        values where nearly all of them lie.

    Raises
    ------
    Refused
        ``size``: decoded, it would take more than ``limit_bytes``.
    Held
        ``pixels``: undecodable, or the description, the coded image and their number disagree.
    """
    layout = Layout.of(ds)
    if not layout.size_bytes <= limit_bytes:
        raise Refused("size", "decoded, the pixels would take more memory than allowed")
    native = pixels.read(ds, layout)
    if layout.photometric == "PALETTE COLOR":
        rgb = _through_palette(ds, native)
        return Frames(rgb, rgb, "RGB", 8)
    if layout.samples == 3:
        shown = native if layout.stored == 8 else _to_eight_bits(native, layout.stored)
        return Frames(shown.astype(np.uint8, copy=False), native, "RGB", layout.stored)
    if layout.stored in {1, 8} and native.dtype == np.uint8:
        low, high = 0.0, float((1 << layout.stored) - 1)
    else:
        low, high = _range(native) if like is None else (like.low, like.high)
    grey = _shown(native, low, high)
    if layout.photometric == "MONOCHROME1":
        np.subtract(255, grey, out=grey)
    rgb = np.repeat(grey[..., None], 3, axis=-1)
    return Frames(rgb, native, layout.photometric, layout.stored, low, high)


def encode(
    ds: Dataset,
    frames: Frames,
    edited: Rgb | None = None,
    hide: NDArray[np.bool_] | None = None,
    syntaxes: Sequence[str] = LOSSLESS,
) -> bool:
    """Puts pixels into a scrubbed data set, in place, reads them back, and compares.

    With nothing to hide the coded bytes stay, freed of APPn and COM segments and of whatever follows the
    image; only where they cannot be taken apart, or are big endian, are the decoded pixels written again
    without loss.

    Parameters
    ----------
    ds
        From :func:`gateway.scrub.scrub`, its pixel data still the original's.
    frames
        What :func:`decode` made of it.
    edited
        uint8 (F, H, W, 3), the painted frames; must equal ``frames.rgb`` outside ``hide``.
    hide
        bool (F, H, W), True where pixels are replaced; ``None`` or all False: nothing is edited.
    syntaxes
        Transfer syntaxes the archive accepts for edited frames, best first.

    Returns
    -------
    bool
        Whether pixels were replaced.

    Raises
    ------
    Held
        ``fidelity``: ``edited`` differs outside ``hide``, or what was written does not read back as it
        should. ``pixels``: none of ``syntaxes`` can be written without loss, or the data set does not fit
        ``frames``.
    """
    layout = Layout.of(ds)
    if hide is None or edited is None or not hide.any():
        if edited is not None and not np.array_equal(edited, frames.rgb):
            raise Held("fidelity", "pixels were changed although nothing was to be hidden")
        _keep(ds, layout, syntaxes, None if layout.photometric == "PALETTE COLOR" else frames.native)
        return False
    if not (hide.shape == frames.rgb.shape[:3] and edited.shape == frames.rgb.shape):
        raise Held("fidelity", "the painted frames do not have the shape of the original")
    differs = edited != frames.rgb
    if ((differs[..., 0] | differs[..., 1] | differs[..., 2]) & ~hide).any():
        raise Held("fidelity", "pixels were changed that were not to be hidden")
    native = frames.native.copy()
    native[hide] = _to_native(edited[hide], frames)
    _write(ds, native, frames.photometric, frames.bits_stored, syntaxes)
    return True


def carry(ds: Dataset, syntaxes: Sequence[str] = LOSSLESS) -> None:
    """Keeps the coded bytes of pixels nobody looks at, in place: freed of what lies beside the image.

    As :func:`encode` with nothing to hide, but decoding only where bytes have to change.

    Raises
    ------
    Held
        ``pixels``: the coded frames cannot be told apart, or their description and their number disagree.
        ``fidelity``: what had to be written anew does not read back as it should.
    """
    _keep(ds, Layout.of(ds), syntaxes)


def _through_palette(ds: Dataset, native: Native) -> Rgb:
    palette = Dataset({ds[keyword].tag: copy(ds[keyword]) for keyword in _PALETTE if keyword in ds})
    palette.file_meta = FileMetaDataset()
    palette.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if ds.file_meta.TransferSyntaxUID == ExplicitVRBigEndian:
        pixels.little_endian(palette)  # pydicom would take the tables' bytes as they are
    try:
        with quiet():
            colours = np.stack([apply_color_lut(frame, palette) for frame in native])[..., :3]
    except Exception as error:
        raise Held("pixels", f"the palette cannot be applied ({type(error).__name__})") from error
    shown: Rgb = np.ascontiguousarray(colours if colours.dtype == np.uint8 else _to_eight_bits(colours, 16))
    return shown


def _to_eight_bits(native: Native, stored: int) -> Rgb:
    shift = stored - 8
    shown: Rgb = (native >> shift if shift > 0 else native << -shift).astype(np.uint8)
    return shown


def _range(native: Native) -> tuple[float, float]:
    """Grey values between which nearly everything lies; a few dead or burnt pixels do not darken the rest."""
    step = max(1, native.size // 1_000_000)
    low, high = np.percentile(native.ravel()[::step], (0.1, 99.9))
    return float(low), float(max(high, low + 1))


def _shown(native: Native, low: float, high: float) -> Rgb:
    if (low, high) == (0.0, 255.0) and native.dtype == np.uint8:
        return native.astype(np.uint8)
    scaled = (native.astype(np.float32) - low) * (255.0 / (high - low))
    shown: Rgb = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return shown


def _to_native(painted: Rgb, frames: Frames) -> Native:
    """Painted pixels (N, 3) in the domain of ``frames.native``."""
    dtype = frames.native.dtype
    if frames.photometric == "RGB":
        shift = frames.bits_stored - 8
        wide = painted.astype(np.int32)
        return (wide << shift if shift > 0 else wide >> -shift).astype(dtype)
    grey = painted.astype(np.float64) @ (0.299, 0.587, 0.114)  # luma, ITU-R BT.601
    if frames.photometric == "MONOCHROME1":
        grey = 255.0 - grey
    values = np.rint(frames.low + grey * ((frames.high - frames.low) / 255.0))
    signed = dtype.kind == "i"
    least = -(1 << (frames.bits_stored - 1)) if signed else 0
    return np.clip(values, least, least + (1 << frames.bits_stored) - 1).astype(dtype)


def _trim_palette(ds: Dataset) -> None:
    """Cuts from each table what follows its last entry (PS3.3 C.7.6.3.1.5, C.7.6.3.1.6)."""
    for colour in ("Red", "Green", "Blue"):
        keyword = f"{colour}PaletteColorLookupTable"
        if f"{keyword}Data" not in ds:
            continue
        try:
            entries, _, bits = (int(number) & 0xFFFF for number in ds[f"{keyword}Descriptor"].value)
            table = bytes(ds[f"{keyword}Data"].value)
        except Exception as error:
            raise Held("pixels", f"the palette cannot be read ({type(error).__name__})") from error
        entries = entries or 1 << 16
        # Eight bits stand two in a word or, as many write them, in a word each.
        length = entries + entries % 2 if bits == 8 and len(table) < 2 * entries else 2 * entries
        if len(table) > length:
            ds[f"{keyword}Data"].value = table[:length]


def _keep(ds: Dataset, layout: Layout, syntaxes: Sequence[str], before: Native | None = None) -> None:
    """The coded bytes as they came, without anything beside the image; decoded only where bytes must change."""
    if layout.photometric == "PALETTE COLOR":
        _trim_palette(ds)
    if layout.syntax == ExplicitVRBigEndian:
        native = pixels.read(ds, layout) if before is None else before
        _write(ds, native, layout.colours, layout.stored, (ExplicitVRLittleEndian,))
    elif layout.syntax.is_encapsulated:
        _keep_coded(ds, layout, syntaxes, before)
    else:
        kept = pixels.bare(ds, layout)
        if kept is not pixels.stored_bytes(ds):
            pixels.put(ds, kept, layout.syntax, layout.allocated)


def _keep_coded(ds: Dataset, layout: Layout, syntaxes: Sequence[str], before: Native | None) -> None:
    coded = pixels.coded_frames(ds, layout)
    pixels.forget(ds, _STALE[2:])
    beside = any(pixels.foreign(frame, layout) for frame in coded)
    if not beside and pixels.tidy(pixels.stored_bytes(ds), layout.frames):
        return
    native = pixels.read(ds, layout) if before is None else before
    try:
        kept = [codestream.clean(frame) for frame in coded] if beside else coded
    except codestream.BrokenImageError:  # as every RLE image with something beside it
        _write(ds, native, layout.colours, layout.stored, syntaxes)
        return
    pixels.put(ds, encapsulate(kept), layout.syntax, 8)
    _compare(ds, native, "the coded image changed when what lies beside it was removed")


def _write(ds: Dataset, native: Native, photometric: str, bits_stored: int, syntaxes: Sequence[str]) -> None:
    """Samples in the first of ``syntaxes`` that holds them without loss, read back and compared."""
    source, coded_bytes = UID(ds.file_meta.TransferSyntaxUID), len(pixels.stored_bytes(ds))
    if source == ExplicitVRBigEndian:
        pixels.little_endian(ds)
    for name in syntaxes:
        syntax = UID(name)
        if syntax not in _NATIVE_SYNTAXES and syntax not in LOSSLESS:
            continue
        _describe(ds, native, photometric, bits_stored)
        data = pixels.packed(ds, native) if syntax in _NATIVE_SYNTAXES else pixels.coded(ds, native, syntax)
        if data is None:
            continue
        pixels.forget(ds, _STALE if photometric == "PALETTE COLOR" else (*_STALE, *_PALETTE))
        pixels.put(ds, data, syntax, int(ds.BitsAllocated))
        if source in _LOSSY_METHODS and ds.get("LossyImageCompression") != "01":
            ds.LossyImageCompression, ds.LossyImageCompressionMethod = "01", _LOSSY_METHODS[source]
            ds.LossyImageCompressionRatio = f"{native.nbytes / coded_bytes:.4g}"
        _compare(ds, native, "the written pixels do not read back as they should")
        return
    raise Held(
        "pixels", "the archive accepts no transfer syntax in which the pixels can be written without loss"
    )


def _describe(ds: Dataset, native: Native, photometric: str, bits_stored: int) -> None:
    ds.PhotometricInterpretation = photometric
    ds.SamplesPerPixel = 3 if photometric == "RGB" else 1
    ds.BitsAllocated = 1 if bits_stored == 1 and ds.BitsAllocated == 1 else native.dtype.itemsize * 8
    ds.BitsStored = bits_stored
    ds.HighBit = bits_stored - 1
    ds.PixelRepresentation = int(native.dtype.kind == "i")
    if photometric == "RGB":
        ds.PlanarConfiguration = 0
    else:
        pixels.forget(ds, ("PlanarConfiguration",))


def _compare(ds: Dataset, native: Native, sentence: str) -> None:
    if not np.array_equal(pixels.read(ds, Layout.of(ds)), native):
        raise Held("fidelity", sentence)

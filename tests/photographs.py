"""Clinical photographs as DICOM, made from arrays: everything about them is invented and known."""

import copy
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    VLPhotographicImageStorage,
    generate_uid,
)

from gateway.demo.photographs import compress, fill

Rgb = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Patient:
    """Who is in the picture; every value is a token that may appear nowhere after de-identification."""

    name: str = "Zweifelsfrei^Adelheid^Maria"
    number: str = "PID-7731-QX"
    birth_date: str = "19510417"
    accession: str = "ACC-55102"
    physician: str = "Knochenhauer^Balduin"
    hospital: str = "Klinikum Oberammerthal"
    address: str = "Rosengasse 17, 99999 Musterhausen"


def skin(height: int = 96, width: int = 128, seed: int = 0) -> Rgb:
    """Skin-coloured noise, uint8 RGB (height, width, 3): a picture without a face."""
    rng = np.random.default_rng(seed)
    tone = np.array([205, 160, 140]) + rng.normal(0, 6, (height, width, 3))
    return tone.clip(0, 255).astype(np.uint8)


def photograph(
    rgb: Rgb,
    *,
    patient: Patient | None = None,
    sop_class: str = VLPhotographicImageStorage,
    syntax: str = ExplicitVRLittleEndian,
    study: str | None = None,
    sop_instance: str | None = None,
) -> Dataset:
    """A complete photograph, uint8 RGB (H, W, 3) or frames (F, H, W, 3), with full identifying metadata.

    ``syntax``: explicit little or big endian, deflated, implicit, RLE, JPEG-LS and JPEG 2000 lossless, or JPEG
    baseline (which is lossy).
    """
    patient = patient or Patient()
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = UID(sop_class)
    ds.SOPInstanceUID = UID(sop_instance) if sop_instance else generate_uid()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.StudyInstanceUID = UID(study) if study else generate_uid()
    ds.SeriesInstanceUID = generate_uid()
    ds.FrameOfReferenceUID = generate_uid()
    _describe(ds, patient)
    fill(ds, rgb)
    return encoded(ds, syntax)


def icc_profile() -> bytes:
    """An ICC profile: sRGB, as Pillow makes it."""
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _describe(ds: Dataset, patient: Patient) -> None:
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.Modality = "XC"
    ds.ConversionType = "DV"
    ds.PatientName, ds.PatientID = patient.name, patient.number
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = patient.birth_date, "F", "073Y"
    ds.PatientAddress, ds.AccessionNumber = patient.address, patient.accession
    ds.InstitutionName, ds.ReferringPhysicianName = patient.hospital, patient.physician
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = ds.AcquisitionDate = "20240312"
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = ds.AcquisitionTime = "101530"
    ds.AcquisitionDateTime = "20240312101530"
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = "S1", "1", "1"
    ds.StudyDescription = f"Photo of {patient.name.split('^', maxsplit=1)[0]}"
    ds.SeriesDescription = "Face, frontal"
    ds.Manufacturer, ds.DeviceSerialNumber = "Camera Works", "SN-0099173"
    ds.Laterality = ""
    ds.LensMake = "Lens Works"
    operator = Dataset()
    operator.PersonName = patient.physician
    operator.InstitutionName = patient.hospital
    ds.RequestAttributesSequence = Sequence([operator])
    block = ds.private_block(0x0009, "GALAXY CAMERA", create=True)
    block.add_new(0x01, "LO", patient.name)


def encoded(ds: Dataset, syntax: str) -> Dataset:
    """The same photograph in another transfer syntax; the UIDs stay as they are."""
    ds = copy.deepcopy(ds)
    syntax = UID(syntax)
    if syntax == JPEGBaseline8Bit:
        _compress_baseline(ds)
    elif syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        compress(ds, syntax)
    elif syntax == ExplicitVRBigEndian:
        return _big_endian(ds)
    ds.file_meta.TransferSyntaxUID = syntax
    return ds


def _big_endian(ds: Dataset) -> Dataset:
    """Eight-bit pixels have no byte order, so only the elements change."""
    fresh = Dataset()
    fresh.update(ds)
    fresh.file_meta = ds.file_meta
    fresh.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    return fresh


def _compress_baseline(ds: Dataset) -> None:
    from PIL import Image

    frames = []
    shape = (int(ds.get("NumberOfFrames", 1)), ds.Rows, ds.Columns, 3)
    for frame in np.frombuffer(ds.PixelData, np.uint8)[: int(np.prod(shape))].reshape(shape):
        stream = BytesIO()
        Image.fromarray(frame).save(stream, "JPEG", quality=92, subsampling=0)
        frames.append(stream.getvalue())
    ds.PixelData = encapsulate(frames)
    ds["PixelData"].is_undefined_length = True
    ds.PhotometricInterpretation = "YBR_FULL"
    ds.LossyImageCompression, ds.LossyImageCompressionMethod = "01", "ISO_10918_1"
    ds.LossyImageCompressionRatio = "10"


def companion(sop_class: str, *, study: str | None = None) -> Dataset:
    """Another object about the patient, without pixels: a report or a document."""
    ds = photograph(skin(8, 8), sop_class=sop_class, study=study)
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel",
                    "PixelRepresentation", "PhotometricInterpretation", "PlanarConfiguration"):  # fmt: skip
        delattr(ds, keyword)
    return ds


def save(ds: Dataset, file: Path) -> Path:
    """Write a photograph as a Part 10 file."""
    ds.save_as(file, enforce_file_format=True)
    return file

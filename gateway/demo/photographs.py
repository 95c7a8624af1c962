"""Photographs as a clinic's camera would store them: arrays with invented, fully identifying metadata.

Every value that names a person, a place or a device is a token: long enough that it cannot stand in pixels by
chance, and searched for in whatever the archive receives. Shape letters: F frames, H rows, W columns.
"""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RLELossless,
    generate_uid,
)

Frames = NDArray[np.uint8]

_FAMILIES = ("Rosenstolz", "Lindqvister", "Haverbrook", "Montgelas", "Okonkwoson", "Tannhofer", "Doenitzki")
_GIVEN = ("Jane", "Erika", "Ada", "Grace", "Maria")


@dataclass(frozen=True, slots=True)
class Patient:
    """An invented person, and everything in the metadata that points at them."""

    family: str
    given: str
    number: str
    birth_date: str
    accession: str
    physician: str
    hospital: str
    address: str
    camera: str

    @property
    def name(self) -> str:
        """The name as DICOM writes it (PS3.5 6.2.1)."""
        return f"{self.family}^{self.given}"

    @property
    def tokens(self) -> tuple[str, ...]:
        """Texts of which none may leave."""
        return (
            self.family,
            self.number,
            self.birth_date,
            self.accession,
            self.physician.split("^", maxsplit=1)[0],
            self.hospital,
            self.address,
            self.camera,
        )


def patient(index: int) -> Patient:
    """The invented patient of this number; the same number gives the same one."""
    family = f"{_FAMILIES[index % len(_FAMILIES)]}-Doe{index:02d}"
    return Patient(
        family=family,
        given=_GIVEN[index % len(_GIVEN)],
        number=f"PID-{770_000 + 37 * index}-QX",
        birth_date=f"19{40 + index % 40}0{1 + index % 9}{11 + index % 17}",
        accession=f"ACC-{551_020 + index}",
        physician="Knochenhauer^Balduin",
        hospital="Klinikum Oberammerthal",
        address=f"Rosengasse {170 + index}, 99999 Musterhausen",
        camera=f"SN-{9_917_300 + index}",
    )


def photograph(frames: Frames, who: Patient, sop_class: str, syntax: str) -> Dataset:
    """One object, ready to be sent.

    Parameters
    ----------
    frames
        uint8 RGB (H, W, 3), or (F, H, W, 3) for a multi-frame object.
    who
        Whose photograph it is. UIDs are functions of the patient's number: one study, series and instance each.
    sop_class, syntax
        UIDs. JPEG baseline (lossy, YBR_FULL_422) gets an EXIF segment with the patient in it, as cameras write.

    Raises
    ------
    ValueError
        The transfer syntax is not one that this demonstration writes.
    """
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = UID(sop_class)
    ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = (
        generate_uid(entropy_srcs=["demo", who.number, level])
        for level in ("instance", "study", "series", "frame")
    )
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    _describe(ds, who)
    fill(ds, frames)
    _encode(ds, frames, who, UID(syntax))
    return ds


def _describe(ds: Dataset, who: Patient) -> None:
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.Modality = "XC"
    ds.ConversionType = "DV"
    ds.PatientName, ds.PatientID = who.name, who.number
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = who.birth_date, "F", "054Y"
    ds.PatientAddress, ds.AccessionNumber = who.address, who.accession
    ds.InstitutionName, ds.ReferringPhysicianName = who.hospital, who.physician
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = ds.AcquisitionDate = "20240312"
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = ds.AcquisitionTime = "101530"
    ds.AcquisitionDateTime = "20240312101530"
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = "S1", "1", "1"
    ds.StudyDescription = f"Dermatology, {who.family}"
    ds.SeriesDescription = "Face, frontal"
    ds.Manufacturer, ds.DeviceSerialNumber = "Camera Works", who.camera
    ds.Laterality = ""
    asked = Dataset()
    asked.RequestingPhysician, asked.RequestedProcedureID = who.physician, who.accession
    ds.RequestAttributesSequence = [asked]
    block = ds.private_block(0x0009, "CAMERA WORKS", create=True)
    block.add_new(0x01, "LO", who.name)


def fill(ds: Dataset, frames: Frames) -> None:
    """Put pixels into an object, uncompressed: uint8 RGB (H, W, 3), or (F, H, W, 3) for a multi-frame object."""
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.Rows, ds.Columns = frames.shape[-3:-1]
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.BurnedInAnnotation, ds.LossyImageCompression = "NO", "00"
    if frames.ndim == 4 or ds.SOPClassUID == MultiFrameTrueColorSecondaryCaptureImageStorage:
        ds.NumberOfFrames = len(frames)
        ds.FrameIncrementPointer = 0x00181063
        ds.FrameTime = "40"
    data = frames.tobytes()
    ds.add_new("PixelData", "OB", data + b"\0" * (len(data) % 2))


def _encode(ds: Dataset, frames: Frames, who: Patient, syntax: UID) -> None:
    if syntax == JPEGBaseline8Bit:
        pictures = frames if frames.ndim == 4 else frames[np.newaxis]
        ds.PixelData = encapsulate([_camera_jpeg(picture, who) for picture in pictures])
        ds["PixelData"].is_undefined_length = True
        ds.PhotometricInterpretation = "YBR_FULL_422"
        ds.LossyImageCompression, ds.LossyImageCompressionMethod = "01", "ISO_10918_1"
        ds.LossyImageCompressionRatio = "10"
    elif syntax in {RLELossless, JPEGLSLossless, JPEG2000Lossless}:
        compress(ds, syntax)
    elif syntax.is_encapsulated:
        raise ValueError(f"the demonstration does not write {syntax.name}")
    ds.file_meta.TransferSyntaxUID = syntax


def compress(ds: Dataset, syntax: UID) -> None:
    """Compress uncompressed pixels without loss, as RLE, JPEG-LS or JPEG 2000; the UIDs stay as they are."""
    if syntax == JPEG2000Lossless:
        ds.compress(syntax, generate_instance_uid=False, use_mct=False)
    else:
        ds.compress(syntax, generate_instance_uid=False)


def _camera_jpeg(picture: Frames, who: Patient) -> bytes:
    """A baseline JPEG with the segments a camera leaves in it: EXIF with owner and serial number, and a comment."""
    image = Pictures.fromarray(picture)
    exif = image.getexif()
    exif[0x013B], exif[0xA431] = who.name, who.camera  # Artist, BodySerialNumber
    stream = BytesIO()
    image.save(
        stream,
        "JPEG",
        quality=92,
        subsampling="4:2:2",
        exif=exif,
        comment=f"{who.name} {who.number}".encode(),
    )
    return stream.getvalue()

"""Masks that people drew are used as drawn, or hold; and they decide nothing about what may leave."""

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage, generate_uid

from gateway.errors import Held
from gateway.masks import DrawnMasks

UID = "1.2.826.0.1.77"
SHAPE = (2, 24, 32)


def source(uid=UID):
    ds = Dataset()
    ds.SOPInstanceUID = uid
    return ds


def drawn(seed=0):
    return np.random.default_rng(seed).random(SHAPE[1:]) < 0.4


def png(folder, kind, mask, uid=UID):
    Image.fromarray((mask * 255).astype(np.uint8)).save(folder / f"{uid}.{kind}.png")


def segmentation(folder, planes, *, of=UID):
    """A binary segmentation; ``planes`` are (label, frame number or None, mask)."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = SegmentationStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.SegmentationType = "BINARY"
    ds.Rows, ds.Columns, ds.NumberOfFrames = *SHAPE[1:], len(planes)
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 1, 1, 0
    labels = list(dict.fromkeys(label for label, _, _ in planes))
    ds.SegmentSequence = Sequence()
    for number, label in enumerate(labels, 1):
        item = Dataset()
        item.SegmentNumber, item.SegmentLabel = number, label
        ds.SegmentSequence.append(item)
    ds.PerFrameFunctionalGroupsSequence = Sequence()
    for label, frame, _ in planes:
        segment, image, derivation, group = Dataset(), Dataset(), Dataset(), Dataset()
        segment.ReferencedSegmentNumber = labels.index(label) + 1
        image.ReferencedSOPInstanceUID = of
        if frame is not None:
            image.ReferencedFrameNumber = frame
        derivation.SourceImageSequence = Sequence([image])
        group.SegmentIdentificationSequence = Sequence([segment])
        group.DerivationImageSequence = Sequence([derivation])
        ds.PerFrameFunctionalGroupsSequence.append(group)
    bits = np.concatenate([mask.ravel() for _, _, mask in planes])
    data = np.packbits(bits, bitorder="little").tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds.save_as(folder / f"{UID}.seg.dcm", enforce_file_format=True)


def test_a_folder_that_does_not_exist_has_no_masks(tmp_path):
    assert DrawnMasks(tmp_path / "none").find(source(), SHAPE) is None


def test_pictures_are_used_as_drawn_for_every_frame(tmp_path):
    png(tmp_path, "hide", drawn())
    found = DrawnMasks(tmp_path).find(source(), SHAPE)
    assert len(found) == 2
    for given in found:
        assert np.array_equal(given.hide, drawn())
        assert given.keep is None


def test_the_soft_edge_of_a_brush_is_hidden_and_not_kept(tmp_path):
    soft = np.full(SHAPE[1:], 60, np.uint8)
    for kind in ("hide", "keep"):
        Image.fromarray(soft).save(tmp_path / f"{UID}.{kind}.png")
    given = DrawnMasks(tmp_path).find(source(), SHAPE)[0]
    assert given.hide.all()
    assert not given.keep.any()


def test_a_segmentation_is_used_frame_by_frame(tmp_path):
    segmentation(tmp_path, [("hide", 1, drawn(1)), ("keep", None, drawn(2)), ("hide", 2, drawn(3))])
    first, second = DrawnMasks(tmp_path).find(source(), SHAPE)
    assert np.array_equal(first.hide, drawn(1))
    assert np.array_equal(second.hide, drawn(3))
    assert np.array_equal(first.keep, drawn(2))
    assert np.array_equal(second.keep, drawn(2))


@pytest.mark.parametrize("fault", ["size", "broken", "label", "another object", "frame"])
def test_a_mask_that_does_not_fit_holds(tmp_path, fault):
    if fault == "size":
        png(tmp_path, "keep", drawn()[:-1])
    elif fault == "broken":
        (tmp_path / f"{UID}.hide.png").write_bytes(b"no picture")
    elif fault == "label":
        segmentation(tmp_path, [("tumour", 1, drawn())])
    elif fault == "frame":
        segmentation(tmp_path, [("hide", 3, drawn())])
    else:
        segmentation(tmp_path, [("hide", 1, drawn())], of="1.2.3")
    with pytest.raises(Held) as held:
        DrawnMasks(tmp_path).find(source(), SHAPE)
    assert held.value.reason == "masks"


def test_a_name_that_is_no_uid_reaches_no_file(tmp_path):
    png(tmp_path, "hide", drawn(), uid="x")
    (tmp_path / "below").mkdir()
    assert DrawnMasks(tmp_path / "below").find(source("../x"), SHAPE) is None

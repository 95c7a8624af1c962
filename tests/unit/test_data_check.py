"""What is wrong with a site's data is found in one pass, and COCO's annotations become the same masks."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from people import made
from pycocotools import mask as rle

from inference.cli import main
from inference.contract import CLASSES
from inference.data import DataError, check, coco, manifest
from inference.data.scorer import Score, ranking, seam


def told(folder: Path) -> dict[str, tuple[str, bool]]:
    return {
        one.where.partition("(")[2].rstrip(")") or one.where: (one.what, one.fatal)
        for one in check.check(folder)[1]
        if not one.where.startswith("split")
    }


def test_a_made_up_set_has_nothing_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path, [f"p{number}" for number in range(3)], each=6)
    assert told(tmp_path) == {}
    assert main(["data", "check", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "0 to put right, 0 to look at" in shown
    assert "test: 1 acne, 1 atopic dermatitis, 1 normal" in shown
    sheet = cv2.imread(str(tmp_path / "sheet.jpg"))
    assert sheet.shape == (3 * 236, 8 * 200, 3)


def test_everything_wrong_is_found_in_one_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = made(tmp_path, [f"p{number}" for number in range(10)], each=1)
    labels = [cv2.imread(str(row.mask), cv2.IMREAD_GRAYSCALE) for row in rows]
    cv2.imwrite(str(rows[0].mask), np.where(labels[0] == 1, 9, labels[0]).astype(np.uint8))
    cv2.imwrite(str(rows[1].mask), labels[1][:-1])
    cv2.imwrite(str(rows[2].mask), np.zeros_like(labels[2]))
    rows[3].image.unlink()
    cv2.imwrite(str(rows[4].mask), cv2.merge([labels[4]] * 3))
    cv2.imwrite(str(rows[5].mask), np.where(labels[5] == 6, 1, labels[5]).astype(np.uint8))
    cv2.imwrite(str(rows[6].mask), np.where(labels[6] == 1, 6, labels[6]).astype(np.uint8))
    cv2.imwrite(str(rows[7].mask), np.where(np.isin(labels[7], (3, 5)), 1, labels[7]).astype(np.uint8))
    shutil.copy(rows[8].image, rows[9].image)
    splits = [replace(row, split="test" if row is rows[9] else "train") for row in rows]
    splits.append(replace(splits[9], image=rows[9].image.with_name("again.jpg"), patient=rows[8].patient))
    shutil.copy(rows[9].image, splits[-1].image)
    manifest.write(tmp_path, splits)
    found = told(tmp_path)
    for row, what, fatal in (
        (rows[0], "values 9; classes are 0 to 6", True),
        (rows[1], "96 × 96, but its mask 96 × 95", True),
        (rows[2], "nothing of a person", True),
        (rows[3], "missing or no picture", True),
        (rows[4], "mask of mode RGB", True),
        (rows[5], "no lesion is labelled", False),
        (rows[6], "the disease is normal", False),
        (rows[7], "taken as upright", False),
        (rows[8], "in another split: what is learnt would leak", True),
    ):
        assert what in found[row.image.name][0], row.image.name
        assert found[row.image.name][1] == fatal
    assert "stands in test and train" in found[f"patient {rows[8].patient}"][0]
    assert main(["data", "check", str(tmp_path), "--sheet", str(tmp_path / "look.png")]) == 1
    assert capsys.readouterr().out.count("wrong  ") == 7
    assert (tmp_path / "look.png").is_file()


@pytest.mark.parametrize("name", ["nowhere/sheet.png", "sheet.xyz"])
def test_a_sheet_that_cannot_be_written_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    made(tmp_path, ["p0"], each=1)
    assert main(["data", "check", str(tmp_path), "--sheet", str(tmp_path / name)]) == 1
    assert "cannot be written; give --sheet a .jpg or .png" in capsys.readouterr().err


def test_every_photograph_that_is_spoken_of_is_framed_and_its_strange_values_outlined(tmp_path: Path) -> None:
    rows = made(tmp_path, [f"p{number}" for number in range(6)], each=2)
    other = "test" if rows[0].split == "train" else "train"
    manifest.write(tmp_path, [replace(rows[0], split=other), *rows[1:]])
    labels = cv2.imread(str(rows[2].mask), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(rows[2].mask), np.where(labels == 1, 9, labels).astype(np.uint8))
    listed, findings = check.check(tmp_path)
    drawn = check.sheet(listed, findings)
    side, tall = check.CELL_PX, check.CELL_PX + check.CAPTION_PX
    cells = [drawn[y : y + tall, x : x + side] for y in (0, tall) for x in range(0, 8 * side, side)]
    red = [bool((cell[1, side // 2] == (220, 30, 30)).all()) for cell in cells]
    assert red == [True] * 3 + [False] * 13, "both photographs of the patient in two splits, and the mask"
    strange = [bool((cell == check.UNKNOWN).all(2).any()) for cell in cells]
    assert strange == [False, False, True] + [False] * 13
    below = [cell[side:] for cell in cells[:12]]
    assert all((one < 128).any() for one in below)
    assert not np.array_equal(below[4], below[10]), "the line and the file name tell them apart"


def test_one_name_written_in_two_ways_is_pointed_out(tmp_path: Path) -> None:
    rows = made(tmp_path, ["p0", "P0 ", "p1", "p2"], each=1)
    diseases, splits = ("acne", "Acne", "acne", "Normal"), ("train", "test", "train", "train")
    manifest.write(
        tmp_path,
        [
            replace(row, disease=disease, split=split)
            for row, disease, split in zip(rows, diseases, splits, strict=True)
        ],
    )
    found = {one.where: one for one in check.check(tmp_path)[1]}
    assert found["disease 'acne' and 'Acne'"].rows == (2, 4, 3)
    assert found["disease 'normal' and 'Normal'"].rows == (5,)
    assert "leaks into another split" in found["patient 'p0' and 'P0'"].what
    assert not any(one.fatal for one in found.values() if one.where.startswith(("disease", "patient")))
    assert len([where for where in found if where.startswith(("disease", "patient"))]) == 3


def test_a_picture_that_exif_turns_is_pointed_out(tmp_path: Path) -> None:
    from PIL import Image

    row = made(tmp_path, ["p0"], each=1)[0]
    with Image.open(row.image) as opened:
        exif = opened.getexif()
        exif[0x0112] = 3
        opened.save(row.image, exif=exif)
    assert "EXIF orientation" in told(tmp_path)[row.image.name][0]
    cv2.imwrite(str(row.image), row.read()[0])
    with Image.open(row.image) as opened:
        opened.save(row.image, "PNG", exif=b"Exif\0\0no such thing")
    manifest.present([row])
    assert told(tmp_path) == {}


def coco_file(folder: Path, form: str) -> Path:
    """Two pictures of 40 × 60, a square of skin with a square lesion in it, in one of COCO's forms."""
    skin, lesion = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint8)
    skin[10:30, 20:50], lesion[15:20, 30:40] = 1, 1

    def coded(mask: np.ndarray, box: tuple[int, int, int, int]) -> object:
        x0, y0, x1, y1 = box
        if form == "polygons":
            return [[x0, y0, x1, y0, x1, y1, x0, y1]]
        packed = rle.encode(np.asfortranarray(mask))
        if form == "packed":
            return {"size": [40, 60], "counts": packed["counts"].decode()}
        flat = np.concatenate([[0], mask.ravel(order="F"), [255]])
        edges = np.flatnonzero(np.diff(flat))
        return {"size": [40, 60], "counts": np.diff(np.concatenate([[0], edges])).tolist()}

    content = {
        "images": [{"id": n, "file_name": f"a/{n}.png", "height": 40, "width": 60} for n in (1, 2)],
        "categories": [{"id": 7, "name": "psoriasis"}, {"id": 8, "name": "Skin"}],
        "annotations": [
            {"image_id": 1, "category_id": 7, "segmentation": coded(lesion, (30, 15, 40, 20))},
            {"image_id": 1, "category_id": 8, "segmentation": coded(skin, (20, 10, 50, 30))},
            {"image_id": 2, "category_id": 8, "segmentation": coded(skin, (20, 10, 50, 30))},
        ],
    }
    (folder / "a").mkdir(parents=True)
    for number in (1, 2):
        cv2.imwrite(str(folder / f"a/{number}.png"), np.full((40, 60, 3), 90 * number, np.uint8))
    (folder / "patients.csv").write_text("image,patient,disease\na/1.png,p1,\na/2.png,p2,\n")
    (folder / "coco.json").write_text(json.dumps(content))
    return folder / "coco.json"


@pytest.mark.parametrize("form", ["polygons", "runs", "packed"])
def test_coco_becomes_a_manifest_with_index_masks(tmp_path: Path, form: str) -> None:
    file = coco_file(tmp_path / "site", form)
    out = tmp_path / "set"
    asked = [
        "data",
        "import-coco",
        str(file),
        "--out",
        str(out),
        "--patients",
        str(file.with_name("patients.csv")),
    ]
    assert main(asked) == 0
    one, two = manifest.read(out)
    assert (one.disease, one.patient, one.split) == ("psoriasis", "p1", "")
    assert (two.disease, two.patient, two.split) == ("normal", "p2", "")
    image, labels = one.read()
    assert image[0, 0, 0] == 90
    assert np.unique(labels).tolist() == [0, 1, 6]
    assert (labels[15:20, 30:40] == CLASSES.index("lesion")).all()
    assert (labels == 6).sum() == 50
    assert (two.read()[1] == 1).sum() == 600


def test_masks_written_as_coco_come_back_as_they_were(tmp_path: Path) -> None:
    rows = made(tmp_path / "set", ["p0", "p1"], each=3)
    file = coco.write_coco(rows, tmp_path / "set/coco.json")
    for row, again in zip(rows, coco.import_coco(file, file.parent, tmp_path / "again"), strict=True):
        assert (again.disease, again.patient) == (row.disease, row.patient)
        assert again.read()[1].tobytes() == row.read()[1].tobytes()
    assert [row.split for row in manifest.read(tmp_path / "again")] == [""] * 6


def test_a_picture_without_a_patient_or_with_a_strange_category_is_refused(tmp_path: Path) -> None:
    file = coco_file(tmp_path / "site", "runs")
    with pytest.raises(DataError, match=r"a/1.png names no patient"):
        coco.import_coco(file, file.parent, tmp_path / "out")
    file.write_text(file.read_text().replace('"psoriasis"', '"plaque"'))
    who = file.with_name("patients.csv")
    with pytest.raises(DataError, match=r"'plaque' is none of .* 'plaque=lesion'"):
        coco.import_coco(file, file.parent, tmp_path / "out", who)
    with pytest.raises(DataError, match="has a lesion, but names no disease"):
        coco.import_coco(file, file.parent, tmp_path / "out", who, {"plaque": "lesion"})
    who.write_text("image,patient,disease\na/1.png,p1,vitiligo\na/2.png,p2,\n")
    rows = coco.import_coco(file, file.parent, tmp_path / "out", who, {"plaque": "lesion"})
    assert [row.disease for row in rows] == ["vitiligo", "normal"]


def run_lengths(**instead: object) -> dict[str, object]:
    return {"size": [40, 60], "counts": [0, 40 * 60], **instead}


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    [
        ("images", {"file_name": None}, r"images\[0\] has no file_name"),
        ("images", {"height": "tall"}, r"images\[0\] has no height"),
        ("images", {"width": 61}, r"a/1.png is 60 × 40, but annotated as 61 × 40"),
        ("images", {"id": 2}, r"images\[1\] has the id 2 of another"),
        ("images", {"file_name": "a/2.png"}, "a/2.png is listed 2 times"),
        ("images", {"file_name": "a/3.png"}, "a/3.png is missing or no picture"),
        ("categories", {"id": 8}, r"categories\[1\] has the id 8 of another"),
        ("categories", {"name": "plaque"}, "'plaque' is none of"),
        ("annotations", {"image_id": 99}, r"annotations\[0\] is of the image 99, which is not listed"),
        ("annotations", {"category_id": 99}, r"annotations\[0\] is of the category 99, which is not listed"),
        ("annotations", {"category_id": []}, r"annotations\[0\] lacks"),
        *[
            (
                "annotations",
                {"segmentation": wrong},
                r"annotations\[0\] of a/1.png is neither polygons nor RLE",
            )
            for wrong in (
                None,
                [],
                [[1, 2, 3]],
                [[1, 1, 9, 9]],
                [[1, 1, 9, 1, float("nan"), 9]],
                [[1, 1, 1e9, 1, 9, 9]],
                run_lengths(counts=[0, 40]),
                run_lengths(counts=[-40, 40 * 60 + 40]),
                run_lengths(counts=[0, 1e3, 1400.0]),
                run_lengths(size=[60, 40]),
                run_lengths(counts=None),
                run_lengths(counts="¤"),
            )
        ],
    ],
)
def test_what_is_wrong_in_a_coco_file_is_told_and_nothing_is_written(
    tmp_path: Path, kind: str, change: dict[str, object], told: str
) -> None:
    file = coco_file(tmp_path / "site", "polygons")
    content = json.loads(file.read_text())
    content[kind][0] |= change
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"coco.json: nothing was imported; put right\n  (.|\n)*{told}"):
        coco.import_coco(file, file.parent, tmp_path / "out", file.with_name("patients.csv"))
    assert not (tmp_path / "out").exists()


def test_all_faults_of_a_coco_file_are_told_at_once(tmp_path: Path) -> None:
    file = coco_file(tmp_path / "site", "packed")
    content = json.loads(file.read_text())
    content["annotations"] += [{"image_id": 9, "category_id": 8, "segmentation": []}] * 3
    for annotation in content["annotations"][:3]:
        counts = annotation["segmentation"]["counts"]
        annotation["segmentation"]["counts"] = counts[: len(counts) // 2]
    file.write_text(json.dumps(content))
    with pytest.raises(DataError) as raised:
        coco.import_coco(file, file.parent, tmp_path / "out", classes={"wheal": "lesion"})
    lines = str(raised.value).splitlines()[1:]
    assert lines[0] == "  --class wheal=…: no category is called so"
    assert "  annotations[3] and 2 more are of the image 9, which is not listed" in lines
    assert sum("names no patient" in line for line in lines) == 2
    assert sum("neither polygons nor RLE" in line for line in lines) == 3


def test_pictures_whose_masks_would_have_one_name_keep_a_mask_each(tmp_path: Path) -> None:
    file = coco_file(tmp_path / "site", "runs")
    shutil.copy(tmp_path / "site/a/2.png", tmp_path / "site/a_1.png")
    file.write_text(file.read_text().replace("a/2.png", "a_1.png"))
    file.with_name("patients.csv").write_text("image,patient,disease\na/1.png,p1,\na_1.png,p2,\n")
    rows = coco.import_coco(file, file.parent, tmp_path / "out", file.with_name("patients.csv"))
    assert [row.mask.name for row in rows] == ["a_1.png", "a_1-2.png"]
    assert [bool((row.read()[1] == 6).any()) for row in rows] == [True, False]


def test_an_import_replaces_no_manifest(tmp_path: Path) -> None:
    file = coco_file(tmp_path / "site", "runs")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/manifest.csv").write_text("a site's own\n")
    with pytest.raises(DataError, match="is there already and is not replaced"):
        coco.import_coco(file, file.parent, tmp_path / "out", file.with_name("patients.csv"))
    assert (tmp_path / "out/manifest.csv").read_text() == "a site's own\n"


def test_a_painting_that_is_best_in_all_wins_and_one_that_is_worst_in_all_loses() -> None:
    scores = [Score(3.0, 0.7, 0.2), Score(9.0, 0.1, 0.6), Score(1.0, 0.9, 0.1)]
    assert ranking(scores) == [2, 0, 1]


def test_a_seam_is_as_large_as_the_step_across_it() -> None:
    hide = np.zeros((20, 20), bool)
    hide[5:15, 5:15] = True
    flat = np.full((20, 20, 3), 120, np.uint8)
    stepped = flat.copy()
    stepped[hide] = 180
    assert seam(flat, hide) == 0
    grey = np.array([[[120] * 3, [180] * 3]], np.float32) / 255
    lightness = cv2.cvtColor(grey, cv2.COLOR_RGB2LAB)[0, :, 0]
    assert seam(stepped, hide) == pytest.approx(lightness[1] - lightness[0], rel=1e-3)

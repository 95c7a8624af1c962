"""A site's list of photographs: what is wrong with it is said, and no patient is learnt from and judged by."""

import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from people import drawn, made

from inference.cli import main
from inference.contract import DISEASES
from inference.data import DataError, manifest, patients, pictures, synthetic
from inference.data.manifest import NORMAL
from inference.pointrend.scenes import LESION


def test_what_was_made_is_read_back(tmp_path: Path) -> None:
    rows = made(tmp_path, [f"p{number}" for number in range(6)])
    assert manifest.read(tmp_path) == rows
    assert manifest.read(tmp_path / "manifest.csv", "train") == [row for row in rows if row.split == "train"]
    for row in rows:
        image, labels = row.read()
        assert image.shape == (96, 96, 3)
        assert (row.disease == NORMAL) == (not (labels == LESION).any())
    assert {row.disease for row in rows} == {NORMAL, *DISEASES}


def test_the_same_call_makes_the_same_set(tmp_path: Path) -> None:
    names = ["one", "two"]
    made(tmp_path / "a", names)
    made(tmp_path / "b", names)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) == 9
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_two_pictures_of_one_person_stay_together(tmp_path: Path) -> None:
    rows = made(tmp_path, ["001_neutral", "001_smiling", "002_neutral", "003_neutral"])
    assert len({row.split for row in rows if row.patient == "001"}) == 1
    assert {row.split for row in rows} == set(manifest.SPLITS)


def test_held_back_portraits_are_the_test_set(tmp_path: Path) -> None:
    people = (drawn(name, index) for index, name in enumerate("abcdef"))
    rows = synthetic.make(
        people, tmp_path, each=1, seed=0, wanted={"train": 0.9, "validation": 0.1}, tested="be"
    )
    assert {row.patient for row in rows if row.split == "test"} == {"b", "e"}


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=5), st.sampled_from(["a", "b", "c"]), min_size=3, max_size=60
    ),
    st.sampled_from(["8:1:1", "8:2", "1:1"]),
    st.integers(0, 99),
)
def test_splits_have_their_shares_and_none_is_empty(groups: dict[str, str], text: str, seed: int) -> None:
    wanted = patients.shares(text)
    chosen = patients.assign(groups, wanted, seed)
    assert chosen.keys() == groups.keys()
    assert chosen == patients.assign(dict(reversed(groups.items())), wanted, seed)
    for name, share in wanted.items():
        count = sum(split == name for split in chosen.values())
        assert count >= 1
        assert abs(count - share * len(groups)) <= len(wanted)


@pytest.mark.parametrize("text", ["8", "8:1:1:1", "8:x", "8:0", "8:-2", "nan:1"])
def test_shares_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="8:1:1"):
        patients.shares(text)


def test_a_patient_in_two_splits_is_an_error(tmp_path: Path) -> None:
    rows = made(tmp_path, ["p0", "p1", "p2"])
    other = "test" if rows[0].split != "test" else "train"
    manifest.write(tmp_path, [replace(rows[0], split=other), *rows[1:]])
    with pytest.raises(DataError, match=r"patient p0: stands in .* leak"):
        manifest.read(tmp_path)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("a.jpg,,acne,p,train", "row 2: nothing in the column mask"),
        ("a.jpg,a.png,acne,p,learn", "row 2: the split 'learn' is none of"),
        ("a.jpg,a.png,acne,p,train\na.jpg,b.png,acne,p,train", "row 3: a.jpg was listed in row 2"),
        ("a.jpg,a.png,acne,p,train\n./a.jpg,b.png,acne,p,train", "row 3: ./a.jpg was listed in row 2"),
        ("", "there is no photograph"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "manifest.csv").write_text("image,mask,disease,patient,split\n" + line + "\n")
    with pytest.raises(DataError, match=told):
        manifest.read(tmp_path)


def test_missing_and_misfit_files_are_told_before_anything_is_learnt(tmp_path: Path) -> None:
    rows = made(tmp_path, ["p0", "p1", "p2"], each=1)
    manifest.present(rows)
    mask = cv2.imread(str(rows[0].mask), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(rows[0].mask), mask[:-1])
    with pytest.raises(
        DataError, match=r"row 2 \(p0-0\.jpg\): p0-0\.jpg is 96 × 96, but its mask 96 × 95; \D*$"
    ):
        manifest.present(manifest.read(tmp_path))
    rows[1].mask.unlink()
    cv2.imwrite(str(rows[2].mask), cv2.merge([mask] * 3))
    with pytest.raises(DataError, match=r"but its mask 96 × 95; .* \(2 more; `gateway-models data check`"):
        manifest.present(rows)
    for row, told in ((rows[1], "p1-0.png is missing"), (rows[2], "a mask of mode RGB")):
        with pytest.raises(DataError, match=told):
            manifest.present([row])


def test_a_turned_picture_is_measured_as_it_is_turned(tmp_path: Path) -> None:
    from PIL import Image

    (row,) = made(tmp_path, ["p0"], each=1)
    with Image.open(row.image) as opened:
        exif = opened.getexif()
        exif[pictures.ORIENTATION] = 6
        opened.crop((0, 0, 96, 60)).save(row.image, exif=exif)
    mask = cv2.imread(str(row.mask), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(row.mask), mask[:, :60])
    assert row.read()[0].shape == (96, 60, 3)
    manifest.present([row])


def test_a_name_is_the_stem_unless_another_picture_has_that_too(tmp_path: Path) -> None:
    images = ("a/front.jpg", "b/front.jpg", "b/left.jpg", "x/y/top.jpg", "z/y/top.jpg", "i.jpg", "i.png")
    lines = "".join(f"{image},m{n}.png,acne,p,train\n" for n, image in enumerate(images))
    (tmp_path / "manifest.csv").write_text("image,mask,disease,patient,split\n" + lines)
    names = [row.name for row in manifest.read(tmp_path)]
    assert names[:3] == ["a_front", "b_front", "left"]
    assert len(set(names)) == len(names)
    assert not any("/" in name for name in names)
    assert [replace(row, split="test").name for row in manifest.read(tmp_path)] == names


def test_photographs_without_a_split_are_told(tmp_path: Path) -> None:
    rows = made(tmp_path, ["p0", "p1"], each=1)
    manifest.assigned(rows)
    with pytest.raises(DataError, match=r"1 of 2 photographs have no split, p1-0\.jpg for one"):
        manifest.assigned([rows[0], replace(rows[1], split="")])


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_picture_that_is_cut_off_is_not_read(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    cv2.imwrite(str(file), drawn("p", 0).image)
    pictures.read_image(file)
    file.write_bytes(file.read_bytes()[:-400])
    with pytest.raises(DataError, match="cut off or damaged"):
        pictures.read_image(file)


def test_a_picture_of_very_many_pixels_is_refused_by_its_header(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    cv2.imwrite(str(file), np.zeros((8, 8), np.uint8))
    content = bytearray(file.read_bytes())
    content[16:24] = (60000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    file.write_bytes(content)
    for read in (pictures.read_image, pictures.read_labels):
        with pytest.raises(DataError, match="far more pixels"):
            read(file)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"image;mask;disease;patient;split\n", "not separated by commas; save it as CSV UTF-8 with"),
        ("image,mask,disease,patient,split\n".encode("utf-16"), "not in UTF-8; save it as CSV UTF-8"),
        ("image,mask,disease,patient,split\na,b,Ekzem,Müller,\n".encode("cp1252"), "not in UTF-8"),
        (
            b"image,mask,disease,patient,split\na,b,acne, mild,p,train\n",
            "row 2 has more values than the header",
        ),
    ],
)
def test_a_table_of_another_form_is_told_with_what_to_do(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(DataError, match=told):
        manifest.read(tmp_path)


def test_a_missing_manifest_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no .*manifest\.csv"):
        manifest.read(tmp_path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("image,mask,patient\n")
    with pytest.raises(DataError, match="no column disease, split"):
        manifest.read(tmp_path)


def test_the_command_makes_a_set_and_splits_it_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    portraits = tmp_path / "portraits"
    for name in ("images", "labels"):
        (portraits / name).mkdir(parents=True)
    for index in range(4):
        person = drawn(f"p{index}", index)
        cv2.imwrite(str(portraits / f"images/{person.name}.png"), person.image[..., ::-1])
        cv2.imwrite(str(portraits / f"labels/{person.name}.png"), person.labels)
    out = tmp_path / "set"
    assert (
        main(["data", "make-synthetic", "--portraits", str(portraits), "--out", str(out), "--each", "1"]) == 0
    )
    assert "4 photographs of 4 patients" in capsys.readouterr().out
    assert main(["data", "split", str(out), "--shares", "1:1"]) == 1
    assert "has splits already; --again deals" in capsys.readouterr().err
    assert main(["data", "split", str(out), "--shares", "1:1", "--again"]) == 0
    assert capsys.readouterr().out == "train: 2 patients, 2 photographs\ntest: 2 patients, 2 photographs\n"
    assert main(["data", "split", str(out), "--shares", "1"]) == 1
    assert "8:1:1" in capsys.readouterr().err


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_only_the_column_split_is_written_anew(tmp_path: Path, mark: str) -> None:
    header = "study,image,mask,split,disease,patient,note\n"
    lines = [
        '1, a.jpg,a.png,{},acne,"p, 0",Müller\n',
        "2,b.jpg,b.png,{},acne,p1,\n",
        "3,c.jpg,c.png,{},acne,p2\n",
    ]
    file = tmp_path / "manifest.csv"
    file.write_text(mark + header + "".join(line.format("") for line in lines), encoding="utf-8")
    assert main(["data", "split", str(file)]) == 0
    splits = [row.split for row in manifest.read(file)]
    assert set(splits) == set(manifest.SPLITS)
    lines[2] = lines[2].replace("p2", "p2,")
    told = [line.format(split) for line, split in zip(lines, splits, strict=True)]
    assert file.read_text(encoding="utf-8") == mark + header + "".join(told)


@pytest.mark.parametrize("wrong", [["--each", "0"], ["--limit", "-3"]])
def test_a_set_of_nothing_is_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: list[str]
) -> None:
    assert main(["data", "make-synthetic", "--out", str(tmp_path / "set"), *wrong]) == 1
    assert "--each must be 1 or more, and --limit 0 (all) or more" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()

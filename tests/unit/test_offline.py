"""Files and folders in, clean files and a report out; here without models, as ``--metadata-only``."""

import json
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from canary import SCRIPTS, canary
from photographs import Patient, companion, photograph, save, skin
from pydicom import Dataset, dcmread
from pydicom.fileset import FileSet
from pydicom.uid import (
    ComprehensiveSRStorage,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    generate_uid,
)

from gateway import part10
from gateway.cli import main
from gateway.needles import walk

STUDY = generate_uid()
TOKENS = [token for value in vars(Patient).values() if isinstance(value, str) for token in value.split("^")]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A configuration with a key, and a folder of a study: two photographs, one below."""
    (tmp_path / "key").write_bytes(b"k" * 32)
    (tmp_path / "key").chmod(0o600)
    shutil.copytree(Path(__file__).resolve().parents[2] / "conf" / "profiles", tmp_path / "profiles")
    (tmp_path / "gateway.toml").write_text('[pseudonyms]\nkey_file = "key"\n')
    (tmp_path / "in" / "Zweifelsfrei").mkdir(parents=True)
    save(photograph(skin(seed=1), study=STUDY, syntax=JPEGBaseline8Bit), tmp_path / "in" / "Adelheid.dcm")
    save(photograph(skin(seed=2), study=STUDY), tmp_path / "in" / "Zweifelsfrei" / "7731")
    return tmp_path


def deidentify(place: Path, *arguments: str | Path, out: str = "out") -> tuple[int, list[dict[str, Any]]]:
    """Exit status and the lines of the report."""
    report = place / "report.jsonl"
    report.unlink(missing_ok=True)
    given = map(str, (*(arguments or (place / "in",)),))
    options = ["--conf", str(place / "gateway.toml"), "--out", str(place / out), "--report", str(report)]
    status = main(["deidentify", "--metadata-only", *options, *given])
    return status, [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []


def files(folder: Path) -> dict[str, str]:
    """Name below the folder and digest of every file."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in found}


def test_a_folder_becomes_clean_files_that_name_nobody_and_its_files_stay_as_they_are(place: Path) -> None:
    before, times = files(place / "in"), [p.stat().st_mtime_ns for p in sorted((place / "in").rglob("*"))]
    status, lines = deidentify(place)
    assert status == 0
    assert [(Path(line["source"]).name, line["state"], line["reason"]) for line in lines] == [
        ("Adelheid.dcm", "released", None),
        ("7731", "released", None),
    ]
    results = [place / "out" / name for name in files(place / "out")]
    assert {Path(line["output"]) for line in lines} == set(results)
    assert len({path.parent for path in results}) == 1  # one study
    for path in results:
        ds = dcmread(path)
        assert path.stem == ds.SOPInstanceUID
        assert path.parent.name == ds.StudyInstanceUID
        text = (str(path.relative_to(place)) + str(ds)).encode() + path.read_bytes()
        assert [token for token in TOKENS if token.encode() in text] == []
    assert files(place / "in") == before
    assert [p.stat().st_mtime_ns for p in sorted((place / "in").rglob("*"))] == times
    assert (place / "report.jsonl").stat().st_mode & 0o077 == 0


def test_an_object_full_of_tokens_leaves_none_in_output_report_or_what_is_said(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = place / "tokens"
    folder.mkdir()
    every = []
    for number, (character_set, script) in enumerate([*SCRIPTS.items(), ("ISO_IR 192", "")]):
        ds = photograph(skin(seed=number))
        every.append(canary(ds, script, number))
        ds.SpecificCharacterSet = character_set.split("\\")
        if not script:
            ds.RecognizableVisualFeatures = "YES"  # so that one is held and its reason is told
        with part10.quiet():
            save(ds, folder / f"{number}.dcm")
    (folder / "cut.dcm").write_bytes((folder / "0.dcm").read_bytes()[:3000])
    status, lines = deidentify(place, folder)
    assert status == 3
    assert [line["state"] for line in lines] == ["released"] * 6 + ["held"] * 2
    told = "".join(capfd.readouterr()) + (place / "report.jsonl").read_text(encoding="utf-8")
    tokens = {token for one in every for token in (*one.texts, *one.uids)}
    assert len(told) > 500
    assert [token for token in tokens if token in told] == []
    for line in lines[:6]:
        file = Path(line["output"]).read_bytes()
        texts = "\n".join(value for seen in walk(part10.read(file)) for value in seen.values).casefold()
        assert [token for token in tokens if token.casefold() in texts or token.encode() in file] == []


def test_pixels_stay_and_nothing_is_claimed_of_them(place: Path) -> None:
    _, lines = deidentify(place)
    for line in lines:
        before, after = dcmread(line["source"]), dcmread(line["output"])
        assert after.PixelData == before.PixelData
        assert after.PatientIdentityRemoved == "NO"
        stated = {item.CodeValue for item in after.DeidentificationMethodCodeSequence}
        assert "113100" in stated
        assert stated.isdisjoint({"113101", "113102"})
        assert after.BurnedInAnnotation == before.BurnedInAnnotation == "NO"  # the sender's word stands
        assert "RecognizableVisualFeatures" not in after


@pytest.mark.parametrize("keyword", ["BurnedInAnnotation", "RecognizableVisualFeatures"])
def test_an_object_that_says_its_pixels_identify_is_held(place: Path, keyword: str) -> None:
    ds = photograph(skin())
    setattr(ds, keyword, "YES")
    status, (line,) = deidentify(place, save(ds, place / "said.dcm"))
    assert (status, line["state"], line["reason"], line["output"]) == (3, "held", "pixels-identify", None)


def test_the_same_folder_by_one_process_and_by_two_gives_the_same_bytes(place: Path) -> None:
    for number in range(3, 7):
        save(photograph(skin(seed=number), syntax=JPEGLSLossless), place / "in" / f"{number}.dcm")
    assert deidentify(place, place / "in", out="one")[0] == 0
    assert deidentify(place, place / "in", "--jobs", "2", out="two")[0] == 0
    first = files(place / "one")
    assert first == files(place / "two")
    assert len(first) == 6
    assert deidentify(place, place / "in", out="one")[0] == 0  # over what is there
    assert files(place / "one") == first


def test_what_may_not_pass_is_refused_or_held_and_harms_nothing_else_of_its_study(place: Path) -> None:
    save(companion(ComprehensiveSRStorage, study=STUDY), place / "in" / "report.dcm")
    (place / "in" / "Thumbs.db").write_bytes(b"no DICOM" * 100)
    strange = photograph(skin())
    strange.SOPClassUID = strange.file_meta.MediaStorageSOPClassUID = "1.2.3.4.5"
    save(strange, place / "in" / "strange.dcm")
    status, lines = deidentify(place)
    assert status == 3
    assert {Path(line["source"]).name: (line["state"], line["reason"]) for line in lines} == {
        "Adelheid.dcm": ("released", None),
        "7731": ("released", None),
        "report.dcm": ("refused", "sop-class"),
        "strange.dcm": ("refused", "sop-class"),
        "Thumbs.db": ("held", "unreadable"),
    }
    assert len(files(place / "out")) == 2


def test_a_dicomdir_stands_for_the_files_it_names_inside_its_folder(place: Path) -> None:
    fileset = FileSet()
    for seed in (1, 2):
        fileset.add(photograph(skin(seed=seed), study=STUDY))
    (place / "medium").mkdir()
    fileset.write(place / "medium")
    fileset._stage["t"].cleanup()  # which it leaves to chance
    named = sorted(
        path for path in (place / "medium").rglob("*") if path.is_file() and path.name != "DICOMDIR"
    )
    named[0].unlink()
    directory = dcmread(place / "medium" / "DICOMDIR")
    outside = Dataset()
    outside.DirectoryRecordType, outside.ReferencedFileID = "IMAGE", ["..", "in", "Adelheid.dcm"]
    directory.DirectoryRecordSequence.append(outside)
    directory.save_as(place / "medium" / "DICOMDIR")
    status, lines = deidentify(place, place / "medium" / "DICOMDIR")
    assert status == 3
    assert {Path(line["source"]): (line["state"], line["reason"]) for line in lines} == {
        named[0]: ("held", "missing"),
        named[1]: ("released", None),
        # It names a file that is not looked for.
        place / "medium" / "DICOMDIR": ("refused", "sop-class"),
    }


def test_file_names_of_any_encoding_are_told_and_treated(place: Path) -> None:
    names = [b"M\xfcller.dcm", "山田\n太郎.dcm".encode()]
    for seed, name in enumerate(names):
        save(photograph(skin(seed=seed)), place / "in" / os.fsdecode(name))
    status, lines = deidentify(place)
    assert status == 0
    assert {os.fsencode(Path(line["source"]).name) for line in lines} == {*names, b"Adelheid.dcm", b"7731"}
    assert (place / "report.jsonl").read_bytes().isascii()


def test_what_is_not_looked_into_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "elsewhere").mkdir()
    (place / "in" / "link").symlink_to(place / "elsewhere", target_is_directory=True)
    (place / "in" / "closed").mkdir()
    look = os.scandir

    def scandir(folder: Any) -> Any:
        # Tests may run as root, to whom nothing is closed.
        if isinstance(folder, str) and Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied", str(folder))
        return look(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    status, lines = deidentify(place)
    held = {Path(line["source"]).name: line["reason"] for line in lines if line["state"] == "held"}
    assert (status, held) == (3, {"link": "missing", "closed": "missing"})


def test_other_bytes_under_a_name_that_is_taken_are_held(place: Path) -> None:
    uid = generate_uid()
    first = save(photograph(skin(seed=1), study=STUDY, sop_instance=uid), place / "in" / "a.dcm")
    save(photograph(skin(seed=2), study=STUDY, sop_instance=uid), place / "in" / "b.dcm")
    (place / "in" / "c.dcm").write_bytes(first.read_bytes())
    _, lines = deidentify(place)
    states = {Path(line["source"]).name: (line["state"], line["reason"]) for line in lines}
    assert states["a.dcm"] == states["c.dcm"] == ("released", None)
    assert states["b.dcm"] == ("held", "conflict")


def test_a_result_that_would_take_the_place_of_a_source_is_held(place: Path) -> None:
    (place / "profiles" / "uids.toml").write_text('options = ["uids"]\n')
    ds = photograph(skin())
    source = place / "out" / str(ds.StudyInstanceUID) / f"{ds.SOPInstanceUID}.dcm"
    source.parent.mkdir(parents=True)
    save(ds, source)
    before = files(place / "out")
    status, (line,) = deidentify(place, source, "--profile", "uids")
    assert (status, line["state"], line["reason"]) == (3, "held", "conflict")
    assert files(place / "out") == before


def test_wrong_calls_say_what_is_wrong_and_do_nothing(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "empty").mkdir()
    (place / "report.jsonl").write_bytes(b"")
    wrong = {
        "does not exist": [place / "nowhere"],
        "no files": [place / "empty"],
        "only read": [place],
        "profile": [place / "in", "--profile", "nonsense"],
    }
    for said, arguments in wrong.items():
        assert deidentify(place, *arguments)[0] == 2
        assert said in capsys.readouterr().err
    source = place / "in" / "Adelheid.dcm"
    before = files(place / "in")
    arguments = ["--conf", str(place / "gateway.toml"), "--out", str(place / "out"), "--metadata-only"]
    for report in (source, source.with_name("DICOMDIR")):
        assert main(["deidentify", *arguments, "--report", str(report), str(source)]) == 2
    with pytest.raises(SystemExit, match="2"):
        main(["deidentify", *arguments, "--jobs", "0", str(source)])
    assert files(place / "in") == before
    assert files(place / "out") == {}


def test_it_works_where_there_is_no_network(place: Path) -> None:
    alone = ["unshare", "--net", "--map-root-user"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*alone, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("this system gives no namespace without a network")
    command = [
        *alone,
        sys.executable,
        "-m",
        "gateway.cli",
        "deidentify",
        str(place / "in"),
        "--metadata-only",
    ]
    command += ["--conf", str(place / "gateway.toml"), "--out", str(place / "out")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=os.environ)
    assert result.returncode == 0, result.stderr
    assert [json.loads(line)["state"] for line in result.stdout.splitlines()] == ["released", "released"]
    assert "2 released" in result.stderr

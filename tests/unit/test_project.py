"""What the project says about itself is true: pages, pins, commands, sizes."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from pydicom.uid import UID

from gateway import receive
from gateway.mark import CODES, PIXEL_BY_PIXEL_MASK
from gateway.settings import Objects

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
UNWANTED = {"torchvision", "timm", "lpips"}
BUNDLE_BYTES = 40_000_000
MODULE_LINES = 400
RECORD_LINES = 25

# In two parts, so that this file may be searched too.
# Put together from halves, so that this file does not hold them itself.
HOSTS = ["pypi" + ".org", "pythonhosted" + ".org", "download." + "pytorch.org", "index" + "-url"]
PLACES = ["/work" + "/main", "/work" + "/shared", "/tmp" + "/venv", "/tmp" + "/runs", "/home" + "/"]


def requirements() -> dict[str, Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    wanted = [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]
    parsed = [Requirement(line) for line in wanted]
    return {str(r): r for r in parsed if canonicalize_name(r.name) != PROJECT["name"]}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    stated = [line for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in stated)}


def tracked() -> Iterator[Path]:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    paths = (ROOT / name for name in listed.decode().split("\0") if name)
    return (path for path in paths if path.is_file())


def commands(program: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The commands that ``--help`` of an installed program lists."""
    (script,) = (found for found in entry_points(group="console_scripts") if found.name == program)
    with pytest.raises(SystemExit):
        script.load()(["--help"])
    return set(re.findall(r"^    ([a-z-]+)(?=\s)", capsys.readouterr().out, re.MULTILINE))


def in_table(program: str) -> set[str]:
    """The commands of a program that the README's table has a row for."""
    rows = re.findall(rf"^\| (`{program} .*?) \|", README, re.MULTILINE)
    named = {word for row in rows if "train" not in row for word in re.findall(r"([a-z-]+)`", row)}
    return named | {"train" for row in rows if row.startswith(f"`{program} train")}


def reasons() -> Iterator[str]:
    """Every reason that an outcome is raised with, wherever it is written as a constant."""
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                first = node.args[0]
                if node.func.id in {"Held", "Refused", "Postponed"} and isinstance(first, ast.Constant):
                    yield str(first.value)


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_the_readme_names_the_two_commands_and_the_makefile_knows_them(command: str) -> None:
    assert re.search(rf"^{command}\b", README, re.MULTILINE)
    assert re.search(rf"^{command.removeprefix('make ')}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("program", ["gateway", "gateway-models"])
def test_the_readme_lists_exactly_the_commands_that_help_lists(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = commands(program, capsys)
    assert found
    assert in_table(program) == found


def test_commands_in_the_pages_exist(capsys: pytest.CaptureFixture[str]) -> None:
    known = {program: commands(program, capsys) for program in ("gateway", "gateway-models")}
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        blocks = re.findall(r"^```.*?^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        for program, name in re.findall(r"^(gateway(?:-models)?) ([a-z-]+)", "\n".join(blocks), re.MULTILINE):
            assert name in known[program], f"{page.name}: {program} {name}"


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_no_tracked_file_names_a_registry_or_a_place_on_a_machine() -> None:
    for path in tracked():
        content = path.read_bytes()
        for needle in HOSTS + PLACES:
            assert needle.encode() not in content, f"{path.relative_to(ROOT)} holds {needle}"


def test_no_library_is_asked_for_that_cannot_stand_beside_a_cpu_build_of_torch() -> None:
    asked = {canonicalize_name(requirement.name) for requirement in requirements().values()}
    assert not asked & UNWANTED
    assert not pins().keys() & UNWANTED


def test_every_requirement_is_pinned_to_a_version_that_fits() -> None:
    pinned = pins()
    for text, requirement in requirements().items():
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{text} is not in constraints.txt"
        assert requirement.specifier.contains(version), f"{text} is pinned to {version}"


def test_pins_are_exact_and_fit_every_build_of_a_version() -> None:
    for name, version in pins().items():
        assert Version(version).local is None, f"{name} is pinned to one build"


def test_both_opencv_are_of_one_version_because_they_share_a_folder() -> None:
    assert pins()["opencv-python"] == pins()["opencv-python-headless"]


def test_generated_pages_are_what_the_code_says() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for name, text in generate.pages().items():
        on_disk = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert on_disk == text, f"docs/{name} is old: python docs/generate.py"


def test_operations_explain_every_reason() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    found = {*reasons(), "conflict", "archive-refused", "archive-not-negotiated", "settled-elsewhere"}
    assert {"similarity", "sop-class", "disk-reserve"} <= found
    assert {reason for reason in found if f"`{reason}`" not in page} == set()


def test_the_conformance_statement_names_what_is_accepted_and_no_more() -> None:
    page = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    named = {UID(found) for found in re.findall(r"1\.2\.840\.10008\.[0-9.]*[0-9]", page)}
    classes = {uid for uid in named if uid.type == "SOP Class"}
    offered = receive.offered(Objects())
    assert classes == {*offered, receive.VERIFICATION}
    assert {uid for uid in named if uid.type == "Transfer Syntax"} == {
        s for found in offered.values() for s in found
    }


def test_the_conformance_statement_names_every_code_and_status() -> None:
    page = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    statuses = (receive.SUCCESS, receive.OUT_OF_RESOURCES, receive.MISMATCH, receive.CANNOT_UNDERSTAND)
    for said in [*CODES, *CODES.values(), *PIXEL_BY_PIXEL_MASK, *(f"0x{s:04X}" for s in statuses)]:
        assert said in page


def test_decisions_are_short_and_indexed() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    records = sorted(folder.glob("[0-9]*.md"))
    assert records
    for record in records:
        text = record.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= RECORD_LINES, f"{record.name} is long"
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
        assert f"({record.name})" in index


def test_no_module_is_longer_than_the_house_allows() -> None:
    for path in [*(ROOT / "gateway").rglob("*.py"), *(ROOT / "inference").rglob("*.py")]:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= MODULE_LINES, f"{path.relative_to(ROOT)} has {lines} lines"


def test_the_nano_bundle_stays_small() -> None:
    files = [path for path in (ROOT / "bundles" / "nano").rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) <= BUNDLE_BYTES


def test_ci_is_a_script_that_bash_reads() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    bash = shutil.which("bash")
    assert bash is not None
    assert subprocess.run([bash, "-n", str(script)], check=False).returncode == 0

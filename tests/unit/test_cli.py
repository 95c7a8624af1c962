"""The command line: enough to find one's way, and wrong calls told apart from findings."""

import json
from pathlib import Path

import pytest
from photographs import photograph, save, skin

from gateway import cli
from gateway.audit import Trail

CONF = """
[spool]
folder = "spool"
reserve_mb = 1
[ledger]
folder = "state"
[pseudonyms]
key_file = "state/key"
[models]
bundle = "nowhere"
"""


pytestmark = pytest.mark.usefixtures("restored_logging")


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.toml"
    file.write_text(CONF, encoding="utf-8")
    return file


def call(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call("--help")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for command in ("init", "serve", "status", "held", "retry", "audit", "demo"):
        assert f"    {command} " in shown, command


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["sreve"],
        ["serve", "--port", "1"],
        ["retry"],
        ["demo"],
        ["deidentify", ".", "--out", "x", "--jobs", "0"],
        ["retry", "--held", "a", "--instance", "b"],
    ],
)
def test_a_wrong_call_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call(*arguments)
    assert ended.value.code == 2
    assert "usage: gateway" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "sentence"),
    [("status", "run: gateway init"), ("held", "run: gateway init"), ("serve", "gateway init")],
)
def test_a_missing_installation_is_one_sentence_and_2(
    conf: Path, capsys: pytest.CaptureFixture[str], command: str, sentence: str
) -> None:
    assert call(command, "--conf", conf) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert sentence in said


def test_a_missing_configuration_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("status", "--conf", tmp_path / "none.toml") == 2
    assert "none.toml cannot be read" in capsys.readouterr().err


def test_without_a_configuration_the_shipped_profiles_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = Path(__file__).resolve().parents[2] / "conf"
    for arguments in ([], ["--profile", "research"], ["--option", "device"]):
        assert call("profile", "show", "--conf", shipped / "gateway.toml", *arguments) == 0
        expected = capsys.readouterr().out
        monkeypatch.chdir(tmp_path)
        assert call("profile", "show", *arguments) == 0
        said = capsys.readouterr()
        assert said.out == expected
        assert "no conf/gateway.toml here" in said.err
    assert call("profile", "show", "--profile", "nobody") == 2
    assert "choose from basic, multicentre" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_a_configuration_files_need_a_key_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(photograph(skin()), tmp_path / "one.dcm")
    monkeypatch.chdir(tmp_path)
    treat = ("deidentify", "one.dcm", "--out", "out", "--metadata-only", "--profile", "strict")
    assert call(*treat) == 2
    note, sentence = capsys.readouterr().err.splitlines()
    assert "shipped" in note
    assert "run: gateway init" in sentence
    assert call("init") == 0
    assert call(*treat) == 0
    monkeypatch.setenv("ANOSKIN_PSEUDONYMS_KEY", "5a" * 32)
    monkeypatch.setenv("ANOSKIN_PSEUDONYMS_KEY_FILE", "nowhere")
    assert call(*treat) == 0
    assert call("deidentify", "one.dcm", "--out", "out") == 2
    assert "No model bundle" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["status"], ["held"], ["serve"], ["audit", "verify"]])
def test_a_service_needs_its_configuration(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*command) == 2
    assert "name the configuration with --conf" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["init"], ["profile", "show"], ["deidentify", ".", "--out", "x"]])
def test_a_configuration_that_is_named_must_be_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert call(*command, "--conf", tmp_path / "none.toml") == 2
    assert "none.toml cannot be read" in capsys.readouterr().err


def test_init_makes_a_key_of_its_own_and_never_another(conf: Path) -> None:
    assert call("init", "--conf", conf) == 0
    key = conf.parent / "state" / "key"
    first = key.read_bytes()
    assert len(first) == 32
    assert key.stat().st_mode & 0o777 == 0o600
    assert (conf.parent / "state").stat().st_mode & 0o777 == 0o700
    assert call("init", "--conf", conf) == 0
    assert key.read_bytes() == first


def test_status_and_held_of_an_empty_gateway(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("init", "--conf", conf)
    capsys.readouterr()
    assert call("status", "--json", "--conf", conf) == 0
    assert json.loads(capsys.readouterr().out) == dict.fromkeys(
        ("received", "cleared", "held", "refused", "forwarded"), 0
    )
    assert call("held", "--json", "--conf", conf) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert call("status", "--conf", conf) == 0
    assert "forwarded" in capsys.readouterr().out


def test_nothing_that_waits_is_said_in_words(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("init", "--conf", conf)
    capsys.readouterr()
    assert call("held", "--conf", conf) == 0
    assert capsys.readouterr().out == "Nothing waits for a person.\n"


def test_retrying_nothing_is_a_finding(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("init", "--conf", conf)
    assert call("retry", "--held", "similarity", "--conf", conf) == 1
    assert "nothing is held for the reason similarity" in capsys.readouterr().err
    assert call("retry", "--instance", "0" * 32, "--conf", conf) == 1


def test_the_trail_is_verified_and_tampering_is_a_finding(
    conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call("init", "--conf", conf)
    file = conf.parent / "state" / "audit.jsonl"
    for _ in range(2):
        Trail(file).append("service", "service.started")
    assert call("audit", "verify", "--conf", conf) == 0
    file.write_text(file.read_text(encoding="utf-8").replace("started", "stopped", 1), encoding="utf-8")
    assert call("audit", "verify", "--conf", conf) == 1
    assert "broken at record 1" in capsys.readouterr().err

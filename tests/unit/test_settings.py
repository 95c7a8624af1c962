"""The configuration: every key known, documented, checked."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from gateway import settings
from gateway.errors import Misconfigured
from gateway.settings import Peer, Settings

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "conf" / "gateway.toml"


def written(folder: Path, text: str) -> Path:
    file = folder / "gateway.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_shipped_file_says_what_the_defaults_are() -> None:
    loaded = settings.load(SHIPPED, {})
    assert loaded.peers == (Peer("PACS", ""),)
    table = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    for section in fields(Settings):
        kind = Peer if section.name == "peers" else section.type
        given = table["peers"][0] if section.name == "peers" else table[section.name]
        for spec in fields(kind):  # type: ignore[arg-type]
            if spec.metadata["kind"] == "environment":
                assert spec.name not in given
            elif section.name != "peers":
                shipped = tuple(given[spec.name]) if isinstance(given[spec.name], list) else given[spec.name]
                default = "" if spec.default is None else spec.default
                assert shipped == (str(default) if isinstance(default, Path) else default), spec.name
        assert given.keys() <= {spec.name for spec in fields(kind)}  # type: ignore[arg-type]


def test_every_key_of_the_shipped_file_has_a_comment_before_it() -> None:
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r"\w+ = ", line)]
    assert len(keys) > 30
    assert [lines[number] for number in keys if not lines[number - 1].startswith("#")] == []


def test_the_page_of_settings_is_what_the_code_says() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == settings.document()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[listner]\nport = 1", "no section [listner]"),
        ("[listener]\nprot = 1", "[listener] has no key prot"),
        ("[listener]\nport = 70000", "takes a whole number from 0 to 65535"),
        ('[listener]\nport = "104"', "takes a whole number from 0 to 65535"),
        ("[listener]\nport = true", "takes a whole number from 0 to 65535"),
        ("[arrival]\nquiet_s = nan", "takes a number, 0 or more"),
        ('[listener]\nae_title = "SEVENTEEN_LETTERS"', "AE title of 1 to 16 characters"),
        ('[listener]\nae_title = "A\\\\B"', "AE title of 1 to 16 characters"),
        ("[[peers]]\nhost = '10.0.0.1'", "[peers] ae_title takes an AE title"),
        ("[peers]\nae_title = 'PACS'", "own [[peers]] section"),
        ('[archive]\ntransfer_syntaxes = ["jpeg"]', 'takes a list of "jpeg-ls", "jpeg2000", "explicit"'),
        ("[archive]\ntransfer_syntaxes = []", "takes a list of"),
        ('[pixels]\nlesion_over_features = "Keep"', 'takes "hide" or "keep" or "hold"'),
        ('[pseudonyms]\nkey = "00"', "is a secret; give it as ANOSKIN_PSEUDONYMS_KEY"),
        ("[spool]\nreserved_mb = 1", "[spool] has no key reserved_mb; did you mean reserve_mb?"),
        ("[listner]\nport = 104", "there is no section [listner]; did you mean listener?"),
        ("[listener", "is not valid TOML"),
        ("listener = 3", "is a section; write [listener]"),
    ],
)
def test_a_wrong_file_is_one_clear_sentence(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(Misconfigured) as caught:
        settings.load(file, {})
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "[listener]\nport = 104\n[archive]\nfactor = 3")
    environ = {
        "ANOSKIN_LISTENER_PORT": "11113",
        "ANOSKIN_LISTENER_ACCEPT_ANY_PEER": "true",
        "ANOSKIN_ARCHIVE_TRANSFER_SYNTAXES": "explicit, jpeg-ls",
        "ANOSKIN_DATA": "/elsewhere",
    }
    loaded = settings.load(file, environ)
    assert loaded.listener.port == 11113
    assert loaded.listener.accept_any_peer is True
    assert loaded.archive.transfer_syntaxes == ("explicit", "jpeg-ls")
    assert loaded.archive.factor == 3.0


@pytest.mark.parametrize(
    ("variable", "text"),
    [("ANOSKIN_LISTENER_PROT", "1"), ("ANOSKIN_LISTENER_PORT", "many"), ("ANOSKIN_PIXEL_TEXT", "hold")],
)
def test_a_wrong_variable_is_an_error_that_names_it(tmp_path: Path, variable: str, text: str) -> None:
    with pytest.raises(Misconfigured, match=variable):
        settings.load(written(tmp_path, ""), {variable: text})


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "site" / "conf"
    folder.mkdir(parents=True)
    loaded = settings.load(written(folder, '[spool]\nfolder = "../spool"'), {})
    assert loaded.spool.folder == tmp_path / "site" / "spool"
    assert loaded.ledger.folder == tmp_path / "site" / "state"


def test_secrets_stay_out_of_every_representation(tmp_path: Path) -> None:
    environ = {"ANOSKIN_PSEUDONYMS_KEY": "ab" * 32, "ANOSKIN_LEDGER_URL": "postgresql://u:hush@db/x"}
    loaded = settings.load(written(tmp_path, ""), environ)
    assert loaded.pseudonyms.secret() == bytes.fromhex("ab" * 32)
    assert "abab" not in repr(loaded)
    assert "hush" not in repr(loaded)


def test_a_key_file_others_can_read_is_refused(tmp_path: Path) -> None:
    loaded = settings.load(written(tmp_path, '[pseudonyms]\nkey_file = "key"'), {})
    with pytest.raises(Misconfigured, match="gateway init"):
        loaded.pseudonyms.secret()
    key = tmp_path / "key"
    key.write_bytes(bytes(32))
    key.chmod(0o644)
    with pytest.raises(Misconfigured, match="chmod 600"):
        loaded.pseudonyms.secret()
    key.chmod(0o600)
    assert loaded.pseudonyms.secret() == bytes(32)
    key.write_bytes(bytes(31))
    with pytest.raises(Misconfigured, match="31 bytes"):
        loaded.pseudonyms.secret()

"""What a Triton server is given: tensors, configurations, exported parts, and a container to run them in."""

import json
import shutil
import socket
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from inference import cli, tritonserver
from inference.bundle import BundleError, part_digest, part_files, read_bundle
from inference.export import export
from inference.tritonserver import Ports, Server, ServerError
from inference.wire import INPAINT, LARGEST_REQUEST, PARTS, POINTREND, TEXT_BLOCK, pack, unpack

ROOT = Path(__file__).resolve().parents[2]
NANO = ROOT / "bundles" / "nano"
TEMPLATES = ROOT / "model_repository"


@given(st.lists(st.text().filter(lambda text: not text.endswith("\0")), min_size=1, max_size=5))
def test_texts_arrive_as_they_were_sent(texts: list[str]) -> None:
    rows = pack(texts)
    assert rows.shape[1] % TEXT_BLOCK == 0
    assert unpack(rows) == texts


def test_a_text_that_could_not_be_told_from_filling_is_not_sent() -> None:
    with pytest.raises(ValueError, match="zero character"):
        pack(["face\0"])


@pytest.mark.parametrize("model", PARTS)
def test_configurations_are_what_triton_reads_and_what_travels(model: str) -> None:
    text_format = pytest.importorskip("google.protobuf.text_format")
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    conf = text_format.Parse((TEMPLATES / model / "config.pbtxt").read_text("utf-8"), messages.ModelConfig())
    assert (conf.name, conf.backend) == (model, "python")
    assert conf.max_batch_size >= LARGEST_REQUEST
    assert conf.instance_group[0].count > 1
    policy = conf.dynamic_batching.default_queue_policy
    assert policy.max_queue_size > 0
    assert policy.allow_timeout_override
    tensors = {
        POINTREND: (["images"], ["probabilities"]),
        INPAINT: (["images", "hide", "prompts", "seeds"], ["painted"]),
    }
    assert ([one.name for one in conf.input], [one.name for one in conf.output]) == tensors[model]


def test_an_export_holds_each_part_with_its_manifest_and_keeps_what_the_site_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "repository"
    arguments = ["export", str(NANO), "--out", str(out), "--templates", str(TEMPLATES)]
    assert cli.main(arguments) == 0
    conf = out / INPAINT / "config.pbtxt"
    conf.write_text("# ours\n", encoding="utf-8")
    (out / INPAINT / "1" / "bundle" / "of an older bundle").touch()
    assert cli.main(arguments) == 0
    assert conf.read_text(encoding="utf-8") == "# ours\n"
    bundle, said = read_bundle(NANO), capsys.readouterr().out
    for model, part in PARTS.items():
        folder = out / model / "1" / "bundle"
        assert str(folder) in said
        there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert there == {"bundle.toml", *part_files(bundle, part)}
        assert part_digest(read_bundle(folder), part) == part_digest(bundle, part)


def test_a_server_does_not_load_weights_that_were_changed(tmp_path: Path) -> None:
    from inference.serving import load

    export(NANO, tmp_path, TEMPLATES)
    folder = tmp_path / POINTREND / "1" / "bundle" / read_bundle(NANO).segmenter["folder"]
    weights = max(folder.iterdir(), key=lambda file: file.stat().st_size)
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    arguments = {
        "model_name": POINTREND,
        "model_repository": str(tmp_path / POINTREND),
        "model_version": "1",
        "model_config": json.dumps({"parameters": {"threads": {"string_value": "1"}}}),
        "model_instance_kind": "CPU",
        "model_instance_device_id": "0",
    }
    with pytest.raises(BundleError, match="is not the file"):
        load(arguments)


def test_a_bundle_that_is_not_whole_is_not_exported(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(NANO, bundle)
    (bundle / "more").touch()
    with pytest.raises(BundleError, match="not listed"):
        export(bundle, tmp_path / "out", TEMPLATES)
    assert not (tmp_path / "out").exists()


def test_a_repository_without_templates_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="--templates"):
        export(NANO, tmp_path / "out", tmp_path)


def test_without_the_wheel_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tritonserver, "find_spec", lambda _name: None)
    assert cli.main(["triton"]) == 1
    said = capsys.readouterr().err
    assert "pip install --no-deps nvidia-pytriton==" in said
    assert "docs/operations.md" in said
    assert not tritonserver.is_available()


def test_the_version_to_install_is_the_pinned_one() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (pin,) = (line for line in pins if line.startswith("nvidia-pytriton=="))
    assert pin in tritonserver.INSTALL


def test_a_repository_without_weights_or_a_port_in_use_is_said_before_anything_starts(tmp_path: Path) -> None:
    if not tritonserver.is_available():
        pytest.skip("the wheel nvidia-pytriton is not installed")
    with pytest.raises(ServerError, match="gateway-models export"):
        Server(tmp_path).start()
    export(NANO, tmp_path, TEMPLATES)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=f"Port {port} cannot be used"):
            Server(tmp_path, Ports(grpc=port)).start()


def test_the_container_loads_the_models_that_the_gateway_asks() -> None:
    folder = ROOT / "deploy" / "triton"
    service = yaml.safe_load((folder / "compose.yaml").read_text(encoding="utf-8"))["services"]["triton"]
    assert (folder / service["build"]["context"]).resolve() == ROOT
    recipe = (ROOT / service["build"]["dockerfile"]).read_text(encoding="utf-8")
    for model in PARTS:
        assert f'"--load-model={model}"' in recipe
    for line in recipe.splitlines():
        if line.startswith("COPY"):
            assert all((ROOT / name).exists() for name in line.split()[1:-1])
    assert any(port.endswith(":8001") for port in service["ports"])
    assert service["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]

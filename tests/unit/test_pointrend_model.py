"""The network is detectron2's, by name and by number; refinement works where the picture is uncertain."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from inference.pointrend.config import ConfigError, PointRendConfig
from inference.pointrend.model import PointRend, uncertainty
from inference.pointrend.weights import (
    WeightsError,
    load_weights,
    read_weights,
    write_checkpoint,
    write_weights,
)

ROOT = Path(__file__).parents[2]
NANO = PointRendConfig.from_yaml(ROOT / "conf/pointrend/nano.yaml")
TINY = replace(
    NANO,
    stem_channels=8,
    res2_channels=8,
    fpn_channels=16,
    head_channels=32,
    fc_dim=16,
    subdivision_points=64,
)


@pytest.fixture(scope="module")
def reference(shared: Path) -> Path:
    return shared / "reference/pointrend/r50_tiny"


def test_a_checkpoint_of_detectron2_gives_the_logits_of_detectron2(reference: Path) -> None:
    model = PointRend(PointRendConfig.from_yaml(reference / "config.yaml")).eval()
    load_weights(model, reference / "model_final.pth")
    expected = np.load(reference / "reference.npz")
    with torch.inference_mode():
        image = torch.from_numpy(expected["image_bgr"]).permute(2, 0, 1)[None].float()
        features, coarse = model.coarse(image)
        assert np.abs(features["p2"][0].numpy() - expected["p2"]).max() <= 1e-3
        assert np.abs(coarse[0].numpy() - expected["coarse_logits"]).max() <= 1e-3
        for image_name, logits_name in (("image_bgr", "logits"), ("image2_bgr", "logits2")):
            image = torch.from_numpy(expected[image_name]).permute(2, 0, 1)[None].float()
            found = model(image)[0].numpy()
            assert found.shape == expected[logits_name].shape
            assert (found.argmax(0) == expected[logits_name].argmax(0)).mean() >= 0.9999


def test_names_and_shapes_are_those_of_the_checkpoint_there_and_back(reference: Path, tmp_path: Path) -> None:
    model = PointRend(PointRendConfig.from_yaml(reference / "config.yaml"))
    theirs = read_weights(reference / "model_final.pth")
    assert {name: t.shape for name, t in model.state_dict().items()} == {
        n: t.shape for n, t in theirs.items()
    }
    load_weights(model, reference / "model_final.pth")
    write_weights(model, tmp_path / "model.safetensors", half=False)
    ours = read_weights(tmp_path / "model.safetensors")
    assert sorted(ours) == sorted(theirs)
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_a_missing_name_is_not_forgiven(tmp_path: Path) -> None:
    model = PointRend(TINY)
    state = model.state_dict()
    state.pop("sem_seg_head.point_head.fc1.weight")
    torch.save({"model": state}, tmp_path / "model_final.pth")
    with pytest.raises(WeightsError, match=r"does not fit .* 1 missing \(such as .*fc1\.weight\)"):
        load_weights(model, tmp_path / "model_final.pth")


def test_an_unknown_name_and_another_shape_are_said_by_name(tmp_path: Path) -> None:
    model = PointRend(TINY)
    state = {**model.state_dict(), "roi_heads.box.weight": torch.zeros(1)}
    state["sem_seg_head.point_head.predictor.bias"] = torch.zeros(3)
    torch.save({"model": state}, tmp_path / "model_final.pth")
    with pytest.raises(WeightsError, match=r"1 unknown \(such as roi_heads.*1 of another shape"):
        load_weights(model, tmp_path / "model_final.pth")


@pytest.mark.parametrize("name", ["model_final.pth", "model_final.pkl"])
def test_a_checkpoint_written_here_is_read_again_exactly(tmp_path: Path, name: str) -> None:
    model = PointRend(replace(TINY, norm="FrozenBN"))
    write_checkpoint(model, tmp_path / name)
    again = PointRend(replace(TINY, norm="FrozenBN"))
    load_weights(again, tmp_path / name)
    assert all(torch.equal(tensor, model.state_dict()[n]) for n, tensor in again.state_dict().items())


def test_a_converted_backbone_is_not_taken_for_a_trained_model(tmp_path: Path) -> None:
    content = {"model": {"conv1_w": np.zeros(3, np.float32)}, "matching_heuristics": True}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(WeightsError, match="converted backbone"):
        read_weights(tmp_path / "R-50.pkl")


def test_counters_that_old_checkpoints_lack_are_not_missed(tmp_path: Path) -> None:
    state = {n: t for n, t in PointRend(TINY).state_dict().items() if "num_batches_tracked" not in n}
    torch.save({"model": state}, tmp_path / "model_final.pth")
    load_weights(PointRend(TINY), tmp_path / "model_final.pth")


@pytest.mark.parametrize(("depth", "parameters"), [(18, 11_176_512), (50, 23_508_032), (101, 42_500_160)])
def test_the_trunk_has_as_many_parameters_as_the_residual_network_of_its_depth(
    depth: int, parameters: int
) -> None:
    width = 64 if depth < 50 else 256
    with torch.device("meta"):
        model = PointRend(PointRendConfig(depth=depth, norm="BN", res2_channels=width))
    assert sum(p.numel() for p in model.backbone.bottom_up.parameters()) == parameters


@pytest.mark.parametrize("depth", [18, 50, 101])
def test_where_detectron2_is_installed_it_gives_the_same_logits(tmp_path: Path, depth: int) -> None:
    pytest.importorskip("detectron2", reason="detectron2 is not installed")
    point_rend = pytest.importorskip("detectron2.projects.point_rend")
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    cfg = get_cfg()
    point_rend.add_pointrend_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "SemanticSegmentor"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64 if depth < 50 else 256
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.SEM_SEG_HEAD.NAME = "PointRendSemSegHead"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = cfg.MODEL.POINT_HEAD.NUM_CLASSES = 7
    theirs = build_model(cfg).eval()
    (tmp_path / "config.yaml").write_text(cfg.dump())
    DetectionCheckpointer(theirs, str(tmp_path)).save("model_final")
    ours = PointRend(PointRendConfig.from_yaml(tmp_path / "config.yaml")).eval()
    load_weights(ours, tmp_path / "model_final.pth")
    image = torch.rand(3, 128, 160, generator=torch.Generator().manual_seed(depth)) * 255
    with torch.inference_mode():
        expected = theirs([{"image": image, "height": 128, "width": 160}])[0]["sem_seg"]
        found = ours(image[None])[0]
    assert (found.argmax(0) == expected.argmax(0)).float().mean() >= 0.9999
    write_checkpoint(ours, tmp_path / "ours.pkl")
    incompatible = DetectionCheckpointer(theirs, str(tmp_path)).load(str(tmp_path / "ours.pkl"))
    assert incompatible is not None


def test_a_pickle_that_wants_to_run_code_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "sprung",))  # type: ignore[return-value]

    torch.save({"model": Trap()}, tmp_path / "model_final.pth")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_weights(tmp_path / "model_final.pth")
    assert not (tmp_path / "sprung").exists()


def test_a_converted_pickle_that_wants_to_run_code_is_not_run_either(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return (Path.touch, (tmp_path / "sprung",))

    (tmp_path / "model_final.pkl").write_bytes(pickle.dumps({"model": Trap()}))
    with pytest.raises(WeightsError, match="cannot be read"):
        read_weights(tmp_path / "model_final.pkl")
    assert not (tmp_path / "sprung").exists()


def test_half_precision_weights_are_widened(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = PointRend(TINY)
    write_weights(model, tmp_path / "model.safetensors")
    again = PointRend(TINY)
    load_weights(again, tmp_path / "model.safetensors")
    for name, tensor in again.state_dict().items():
        assert tensor.dtype == model.state_dict()[name].dtype
        assert torch.allclose(tensor, model.state_dict()[name], atol=2e-3)


def test_the_shipped_configuration_is_small() -> None:
    assert sum(p.numel() for p in PointRend(NANO).parameters()) <= 4_000_000


@pytest.mark.parametrize(
    "changes",
    [
        {"depth": 34},
        {"depth": 50, "res2_channels": 32, "width_per_group": 8, "stride_in_1x1": False},
        {"depth": 101, "res2_channels": 32, "groups": 4, "width_per_group": 4},
        {"norm": "FrozenBN", "fpn_norm": "GN", "fpn_channels": 32, "fpn_fuse": "avg"},
        {"coarse_each_layer": False, "fc_count": 1, "point_features": ("p2", "p3")},
    ],
)
def test_other_shapes_that_detectron2_builds_give_full_resolution_logits(changes: dict[str, object]) -> None:
    config = replace(TINY, **changes)  # type: ignore[arg-type]
    with torch.inference_mode():
        logits = PointRend(config).eval()(torch.rand(1, 3, 64, 96) * 255)
    assert logits.shape == (1, config.classes, 64, 96)
    assert torch.isfinite(logits).all()


def test_refinement_changes_only_the_most_uncertain_points() -> None:
    torch.manual_seed(1)
    head = PointRend(replace(TINY, subdivision_steps=1, subdivision_points=40)).eval().sem_seg_head
    coarse = torch.randn(2, TINY.classes, 16, 16)
    features = {"p2": torch.randn(2, TINY.fpn_channels, 16, 16)}
    with torch.inference_mode():
        refined = head.refine(features, coarse)
        smooth = torch.nn.functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    doubt = uncertainty(smooth)
    for number in range(2):
        changed = (refined[number] != smooth[number]).any(dim=0)
        assert changed.sum() == 40
        assert doubt[number][changed].min() >= doubt[number][~changed].max()


def test_uncertainty_is_greatest_where_two_classes_tie() -> None:
    logits = torch.tensor([[[3.0, 3.0, 1.0], [3.0, 0.0, 2.0], [0.0, 0.0, 9.0]]])
    assert uncertainty(logits).tolist() == [[0.0, -3.0, -7.0]]


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("MODEL", "META_ARCHITECTURE", "GeneralizedRCNN", "META_ARCHITECTURE"),
        ("RESNETS", "DEPTH", 20, "DEPTH"),
        ("RESNETS", "RES5_DILATION", 2, "RES5_DILATION"),
        ("RESNETS", "DEFORM_ON_PER_STAGE", [False, True, True, True], "deformable"),
        ("POINT_HEAD", "NUM_CLASSES", 9, "differ"),
        ("SEM_SEG_HEAD", "NAME", "SemSegFPNHead", "SEM_SEG_HEAD"),
        ("INPUT", "FORMAT", "YUV-BT.601", "FORMAT"),
    ],
)
def test_a_configuration_of_another_model_is_refused(
    tmp_path: Path, section: str, key: str, value: object, message: str
) -> None:
    content = yaml.safe_load((ROOT / "conf/pointrend/nano.yaml").read_text())
    model = content["MODEL"]
    places = {"MODEL": model, "INPUT": content.setdefault("INPUT", {})}
    place = places.get(section) or model.get(section) or content[section]
    place[key] = value
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=message):
        PointRendConfig.from_yaml(tmp_path / "config.yaml")

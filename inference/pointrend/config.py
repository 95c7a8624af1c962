"""The part of a detectron2 configuration that shapes a semantic PointRend model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Residual blocks of res2 to res5, by depth."""

LEVELS = ("res2", "res3", "res4", "res5")


class ConfigError(ValueError):
    """The configuration does not describe a model that this package builds; the message says why."""


@dataclass(frozen=True, slots=True)
class PointRendConfig:
    """What detectron2's keys under ``MODEL`` say, named alike; the defaults are detectron2's.

    Attributes
    ----------
    depth, norm, stem_channels, res2_channels, groups, width_per_group, stride_in_1x1
        ``RESNETS.*``. ``res2_channels`` may be any number at
        depths 18 and 34 too, where detectron2 insists on 64.
    fpn_channels, fpn_norm, fpn_fuse
        ``FPN.*``.
    head_channels, head_norm, head_features, common_stride, classes, ignore
        ``SEM_SEG_HEAD.*``.
    fc_dim, fc_count, coarse_each_layer, point_features
        ``POINT_HEAD.*``, the point-wise perceptron.
    train_points, oversample, importance
        ``POINT_HEAD.*``: how points are chosen in training (PointRend, section 3.1: N, k and beta).
    subdivision_steps, subdivision_points
        ``POINT_HEAD.*``: inference.
    mean, std
        ``PIXEL_MEAN`` and ``PIXEL_STD``, in the order of the model's input.
    rgb
        ``INPUT.FORMAT`` is RGB: the model was trained on R, G, B instead of B, G, R.
    """

    depth: int = 50
    norm: str = "FrozenBN"
    stem_channels: int = 64
    res2_channels: int = 256
    groups: int = 1
    width_per_group: int = 64
    stride_in_1x1: bool = True
    fpn_channels: int = 256
    fpn_norm: str = ""
    fpn_fuse: str = "sum"
    head_channels: int = 128
    head_norm: str = "GN"
    head_features: tuple[str, ...] = ("p2", "p3", "p4", "p5")
    common_stride: int = 4
    classes: int = 54
    ignore: int = 255
    fc_dim: int = 256
    fc_count: int = 3
    coarse_each_layer: bool = True
    point_features: tuple[str, ...] = ("p2",)
    train_points: int = 2048
    oversample: float = 3.0
    importance: float = 0.75
    subdivision_steps: int = 2
    subdivision_points: int = 8192
    mean: tuple[float, float, float] = (103.53, 116.28, 123.675)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    rgb: bool = False

    @classmethod
    def from_yaml(cls, path: Path) -> "PointRendConfig":
        """Reads a configuration as detectron2 dumps it (``config.yaml`` beside a checkpoint).

        Raises
        ------
        ConfigError
            No such file, no YAML, or a model of another kind.
        """
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"{path.name} cannot be read as YAML") from error
        if not isinstance(content, dict) or not isinstance(content.get("MODEL"), dict):
            raise ConfigError(f"{path.name} has no MODEL section")
        if "_BASE_" in content:
            raise ConfigError(f"{path.name} refers to another file (_BASE_); use the full dump of detectron2")
        order = (content.get("INPUT") or {}).get("FORMAT", "BGR")
        if order not in ("BGR", "RGB"):
            raise ConfigError(f"INPUT.FORMAT is {order!r}; a model of BGR or RGB pictures is needed")
        return replace(cls.from_model(content["MODEL"]), rgb=order == "RGB")

    @classmethod
    def from_model(cls, model: Mapping[str, Any]) -> "PointRendConfig":
        """Reads the ``MODEL`` section.

        Raises
        ------
        ConfigError
            A model of another kind than a ResNet-FPN with a semantic PointRend head.
        """
        resnet, fpn = model.get("RESNETS", {}), model.get("FPN", {})
        head, point = model.get("SEM_SEG_HEAD", {}), model.get("POINT_HEAD", {})
        default = cls()
        _require(model.get("META_ARCHITECTURE"), "META_ARCHITECTURE", "SemanticSegmentor")
        _require(model.get("BACKBONE", {}).get("NAME"), "BACKBONE.NAME", "build_resnet_fpn_backbone")
        _require(head.get("NAME"), "SEM_SEG_HEAD.NAME", "PointRendSemSegHead")
        _require(
            point.get("COARSE_SEM_SEG_HEAD_NAME", "SemSegFPNHead"),
            "COARSE_SEM_SEG_HEAD_NAME",
            "SemSegFPNHead",
        )
        _require(tuple(fpn.get("IN_FEATURES", LEVELS)), "FPN.IN_FEATURES", LEVELS)
        # A dilated res5 has the stride of res4, which detectron2's pyramid does not accept either.
        _require(resnet.get("RES5_DILATION", 1), "RESNETS.RES5_DILATION", 1)
        if any(resnet.get("DEFORM_ON_PER_STAGE", [])):
            raise ConfigError("deformable convolutions (RESNETS.DEFORM_ON_PER_STAGE) are not built here")
        found = cls(
            depth=int(resnet.get("DEPTH", default.depth)),
            norm=str(resnet.get("NORM", default.norm)),
            stem_channels=int(resnet.get("STEM_OUT_CHANNELS", default.stem_channels)),
            res2_channels=int(resnet.get("RES2_OUT_CHANNELS", default.res2_channels)),
            groups=int(resnet.get("NUM_GROUPS", default.groups)),
            width_per_group=int(resnet.get("WIDTH_PER_GROUP", default.width_per_group)),
            stride_in_1x1=bool(resnet.get("STRIDE_IN_1X1", default.stride_in_1x1)),
            fpn_channels=int(fpn.get("OUT_CHANNELS", default.fpn_channels)),
            fpn_norm=str(fpn.get("NORM", default.fpn_norm)),
            fpn_fuse=str(fpn.get("FUSE_TYPE", default.fpn_fuse)),
            head_channels=int(head.get("CONVS_DIM", default.head_channels)),
            head_norm=str(head.get("NORM", default.head_norm)),
            head_features=tuple(head.get("IN_FEATURES", default.head_features)),
            common_stride=int(head.get("COMMON_STRIDE", default.common_stride)),
            classes=int(head.get("NUM_CLASSES", default.classes)),
            ignore=int(head.get("IGNORE_VALUE", default.ignore)),
            fc_dim=int(point.get("FC_DIM", default.fc_dim)),
            fc_count=int(point.get("NUM_FC", default.fc_count)),
            coarse_each_layer=bool(point.get("COARSE_PRED_EACH_LAYER", default.coarse_each_layer)),
            point_features=tuple(point.get("IN_FEATURES", default.point_features)),
            train_points=int(point.get("TRAIN_NUM_POINTS", default.train_points)),
            oversample=float(point.get("OVERSAMPLE_RATIO", default.oversample)),
            importance=float(point.get("IMPORTANCE_SAMPLE_RATIO", default.importance)),
            subdivision_steps=int(point.get("SUBDIVISION_STEPS", default.subdivision_steps)),
            subdivision_points=int(point.get("SUBDIVISION_NUM_POINTS", default.subdivision_points)),
            mean=_three(model.get("PIXEL_MEAN", default.mean)),
            std=_three(model.get("PIXEL_STD", default.std)),
        )
        if found.depth not in BLOCKS:
            raise ConfigError(f"RESNETS.DEPTH {found.depth} is none of {sorted(BLOCKS)}")
        if found.fpn_fuse not in ("sum", "avg"):
            raise ConfigError("FPN.FUSE_TYPE must be sum or avg")
        if int(point.get("NUM_CLASSES", found.classes)) != found.classes:
            raise ConfigError("POINT_HEAD.NUM_CLASSES and SEM_SEG_HEAD.NUM_CLASSES differ")
        return found


def _require(value: object, key: str, wanted: object) -> None:
    if value != wanted:
        raise ConfigError(f"MODEL.{key} is {value!r}; only {wanted!r} is built here")


def _three(values: Any) -> tuple[float, float, float]:
    b, g, r = (float(v) for v in values)
    return b, g, r


def write_config(source: Path, target: Path, classes: int) -> None:
    """Write the configuration ``source`` with this number of classes to ``target``, all other keys as they are."""
    content = yaml.safe_load(source.read_text(encoding="utf-8"))
    for part in ("SEM_SEG_HEAD", "POINT_HEAD"):
        content["MODEL"].setdefault(part, {})["NUM_CLASSES"] = classes
    target.write_text(yaml.safe_dump(content, sort_keys=True), encoding="utf-8")

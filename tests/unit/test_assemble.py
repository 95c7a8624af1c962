"""A site's weights become a bundle only when they fit, are the ones pinned, and nothing is left open."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

sys.path.insert(0, str(Path(__file__).parent))
import sd2

from inference import assemble
from inference.bundle import BundleError, digest, read_bundle, verify
from inference.cli import main
from inference.inpaint.importing import InpaintSource, import_inpaint
from inference.inpaint.inpainter import load_pipeline
from inference.pointrend.config import PointRendConfig
from inference.pointrend.model import PointRend
from inference.pointrend.weights import read_weights, write_checkpoint
from inference.signoff import UNSEEN, objection

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "conf" / "bundles" / "sd2.toml"
NANO = ROOT / "conf" / "pointrend" / "nano.yaml"
ATTENTION = ["to_q", "to_v"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return sd2.saved(tmp_path_factory.mktemp("base") / "sd2-tiny")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("detectron2") / "model_final.pth"
    write_checkpoint(PointRend(PointRendConfig.from_yaml(NANO)), file)
    return file


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    (folder / "detector.onnx").write_bytes(b"detector")
    return folder


def adapter(folder: Path, *, seed: int = 0, rank: int = 2, channels: int = 9) -> Path:
    """A trained LoRA of the tiny UNet, as peft saves it."""
    torch.manual_seed(seed)
    unet = get_peft_model(
        sd2.pipeline(channels=channels).unet,
        LoraConfig(r=rank, target_modules=ATTENTION, init_lora_weights=False),
    )
    unet.save_pretrained(folder)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_pipeline(folder).unet.state_dict()


def test_an_imported_inpainter_is_the_base_in_half_precision_and_says_where_it_comes_from(base, tmp_path):
    import_inpaint(InpaintSource(str(base)), tmp_path / "inpainter")
    before, after = weights(base), weights(tmp_path / "inpainter")
    assert all(torch.equal(t.half().float(), after[name]) for name, t in before.items())
    said = json.loads((tmp_path / "inpainter" / "source.json").read_text())
    assert said["files"]["unet/diffusion_pytorch_model.safetensors"] == digest(
        base / "unet" / "diffusion_pytorch_model.safetensors"
    )
    assert str(tmp_path) not in (tmp_path / "inpainter" / "model_index.json").read_text()


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_lora_of_peft_is_fused_at_its_scale(base, tmp_path, scale):
    from peft import PeftModel

    lora = adapter(tmp_path / "lora")
    import_inpaint(InpaintSource(str(base), lora=lora, lora_scale=scale), tmp_path / "inpainter")
    full = PeftModel.from_pretrained(load_pipeline(base).unet, lora).merge_and_unload().state_dict()
    before, after = weights(base), weights(tmp_path / "inpainter")
    changed = [name for name, t in before.items() if not torch.equal(full[name], t)]
    assert changed
    for name in before:
        wanted = before[name] + scale * (full[name] - before[name])
        assert torch.allclose(after[name], wanted, atol=2e-3), name
    said = json.loads((tmp_path / "inpainter" / "source.json").read_text())
    assert said["lora_scale"] == scale
    assert said["lora"] == {"adapter_model.safetensors": digest(lora / "adapter_model.safetensors")}


def test_a_lora_of_diffusers_is_fused_alike(base, tmp_path):
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    lora = adapter(tmp_path / "peft")
    import_inpaint(InpaintSource(str(base), lora=lora, lora_scale=0.7), tmp_path / "one")
    pipeline = load_pipeline(base)
    torch.manual_seed(0)
    pipeline.unet.add_adapter(LoraConfig(r=2, target_modules=ATTENTION, init_lora_weights=False))
    from safetensors.torch import load_file

    own = load_file(lora / "adapter_model.safetensors")
    state = get_peft_model_state_dict(pipeline.unet)
    same = {name: own[f"base_model.model.{name}"] for name in state}
    pipeline.save_lora_weights(tmp_path / "diffusers", convert_state_dict_to_diffusers(same))
    import_inpaint(InpaintSource(str(base), lora=tmp_path / "diffusers", lora_scale=0.7), tmp_path / "two")
    one, two, before = weights(tmp_path / "one"), weights(tmp_path / "two"), weights(base)
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    assert not torch.allclose(one[name], before[name], atol=1e-3)
    # diffusers takes alpha = rank where none is stored, peft's default alpha is 8.
    assert not torch.allclose(two[name], before[name], atol=1e-3)
    factor = ((one[name] - before[name]).norm() / (two[name] - before[name]).norm()).item()
    assert factor == pytest.approx(8 / 2, rel=0.02)


def test_a_lora_of_the_text_encoder_is_fused_too(base, tmp_path):
    from diffusers import StableDiffusionInpaintPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    pipeline = load_pipeline(base)
    layers = {}
    for part, names in (("unet", ATTENTION), ("text_encoder", ["q_proj", "v_proj"])):
        model = getattr(pipeline, part)
        model.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=names, init_lora_weights=False))
        layers[f"{part}_lora_layers"] = convert_state_dict_to_diffusers(get_peft_model_state_dict(model))
    StableDiffusionInpaintPipeline.save_lora_weights(tmp_path / "lora", **layers)
    import_inpaint(InpaintSource(str(base), lora=tmp_path / "lora"), tmp_path / "inpainter")
    before, after = (load_pipeline(folder) for folder in (base, tmp_path / "inpainter"))
    for part in ("unet", "text_encoder"):
        changed = [
            name
            for name, tensor in getattr(after, part).state_dict().items()
            if not torch.allclose(tensor, getattr(before, part).state_dict()[name], atol=1e-3)
        ]
        assert changed
        assert all("to_" in name or "_proj" in name for name in changed)


def test_a_lora_of_another_model_is_refused(base, tmp_path):
    torch.manual_seed(0)
    other = get_peft_model(
        torch.nn.ModuleDict({"to_q": torch.nn.Linear(4, 4)}),
        LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False),
    )
    other.save_pretrained(tmp_path / "lora")
    with pytest.raises(
        BundleError, match=r"LoRA in .*(does not fit|adapts 1 layers, of which this model has)"
    ):
        import_inpaint(InpaintSource(str(base), lora=tmp_path / "lora"), tmp_path / "inpainter")
    assert not (tmp_path / "inpainter").exists()


def test_a_folder_without_a_lora_is_refused(base, tmp_path):
    (tmp_path / "lora").mkdir()
    with pytest.raises(BundleError, match="holds no LoRA"):
        import_inpaint(InpaintSource(str(base), lora=tmp_path / "lora"), tmp_path / "inpainter")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 4}, "nine-channel"),
        ({"prediction": "v_prediction"}, "nine-channel ε-prediction"),
    ],
)
def test_a_model_of_another_kind_is_refused(tmp_path, changes, message):
    with pytest.raises(BundleError, match=message):
        import_inpaint(InpaintSource(str(sd2.saved(tmp_path / "base", **changes))), tmp_path / "inpainter")


def test_a_text_encoder_that_goes_on_to_the_last_layer_is_refused():
    from types import SimpleNamespace as Is

    from inference.inpaint.importing import check

    text = Is(config=Is(hidden_size=1024, num_hidden_layers=24, max_position_embeddings=77))
    with pytest.raises(BundleError, match="last but one"):
        check(Is(text_encoder=text, unet=Is(config=None), vae=Is(config=None), tokenizer=None))


def test_a_tokenizer_that_makes_more_tokens_than_the_encoder_reads_is_refused(base):
    from inference.inpaint.importing import check

    pipeline = load_pipeline(base)
    check(pipeline)
    pipeline.tokenizer.model_max_length = 128
    with pytest.raises(BundleError, match=r"128 tokens, .* reads 77"):
        check(pipeline)


def test_a_base_that_is_not_the_one_pinned_is_refused(base, tmp_path):
    name = "unet/diffusion_pytorch_model.safetensors"
    import_inpaint(InpaintSource(str(base), files={name: digest(base / name)}), tmp_path / "right")
    with pytest.raises(BundleError, match="not the file that was pinned"):
        import_inpaint(InpaintSource(str(base), files={name: "0" * 64}), tmp_path / "wrong")


def test_a_hub_id_without_a_commit_is_refused_before_anything_is_asked(tmp_path):
    with pytest.raises(BundleError, match="has to be pinned"):
        import_inpaint(InpaintSource("owner/name", revision="main"), tmp_path / "inpainter")
    with pytest.raises(BundleError, match="neither a folder nor an id"):
        import_inpaint(InpaintSource(str(tmp_path / "nowhere")), tmp_path / "inpainter")


def test_a_hub_that_cannot_be_reached_is_one_clear_sentence(tmp_path, monkeypatch):
    def away(*_args, **_options):
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", away)
    with pytest.raises(BundleError, match="could not be had from the model hub"):
        import_inpaint(InpaintSource("owner/name", revision="a" * 40), tmp_path / "inpainter")


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    pipeline = sd2.pipeline()
    with torch.no_grad():
        pipeline.unet.conv_in.bias[0] = torch.inf
    pipeline.save_pretrained(tmp_path / "base")
    with pytest.raises(BundleError, match="no numbers"):
        import_inpaint(InpaintSource(str(tmp_path / "base")), tmp_path / "inpainter")


def test_a_checkpoint_of_detectron2_becomes_the_segmenter_and_goes_back_unchanged(
    checkpoint, tmp_path, capsys
):
    folder = tmp_path / "bundle"
    begun = ["--bundle", str(folder), "--recipe", str(RECIPE)]
    assert main(["import-pointrend", str(checkpoint), str(NANO), *begun]) == 0
    bundle = read_bundle(folder)
    (folder / "bundle.toml").write_text(
        (folder / "bundle.toml").read_text().replace("similarity_limit = 0.0", "similarity_limit = 0.4")
    )
    with pytest.raises(BundleError, match="the inpainter is not there yet"):
        verify(read_bundle(folder))
    before = read_weights(checkpoint)
    assert bundle.files["segmenter/model.safetensors"] == digest(folder / "segmenter" / "model.safetensors")
    out = tmp_path / "back"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assemble, "verify", lambda bundle: None)
        assemble.take_segmenter(bundle, out)
    for name in ("model_final.pth", "model_final.pkl"):
        after = read_weights(out / name)
        assert sorted(after) == sorted(before)
        assert all(torch.equal(after[key], tensor) for key, tensor in before.items())
    assert (out / "config.yaml").read_text() == NANO.read_text()


def test_a_checkpoint_with_other_classes_than_the_manifest_is_refused(checkpoint, tmp_path, capsys):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.read_text().replace('brow = "identity"', 'brow = "identity"\nhair = "identity"'))
    bundle = assemble.draft(tmp_path / "bundle", recipe)
    with pytest.raises(BundleError, match="7 classes, 8 are named"):
        assemble.put_segmenter(bundle, checkpoint, NANO)
    assert not (tmp_path / "bundle" / "segmenter").exists()


def filled_in(folder: Path, base: Path, checkpoint: Path, pack: Path) -> Path:
    """The shipped recipe with every source given, paths relative to it."""
    folder.mkdir()
    for source, name in ((base, "base"), (pack, "pack")):
        shutil.copytree(source, folder / name)
    shutil.copy(checkpoint, folder)
    shutil.copy(NANO, folder / "config.yaml")
    text = RECIPE.read_text()
    begin, end = text.index("[inpainter.source.files]"), text.index("[faces]")
    text = text[:begin] + text[end:]
    for was, becomes in (
        ('checkpoint = ""', f'checkpoint = "{checkpoint.name}"'),
        ('config = ""', 'config = "config.yaml"'),
        ('base = "sd2-community/stable-diffusion-2-inpainting"', 'base = "base"'),
        ('folder = ""', 'folder = "pack"'),
        ('licence = ""', 'licence = "bought"'),
        ("similarity_limit = 0.0", "similarity_limit = 0.4"),
    ):
        assert was in text
        text = text.replace(was, becomes)
    (folder / "site.toml").write_text(text)
    return folder / "site.toml"


def test_a_recipe_that_leaves_a_source_open_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"\[segmenter\.source\] checkpoint, config is for the site"):
        assemble.build(RECIPE, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_the_shipped_recipe_pins_what_it_fetches():
    import tomllib

    source = tomllib.loads(RECIPE.read_text())["inpainter"]["source"]
    assert len(source["revision"]) == 40
    assert len(source["files"]) == 3
    assert all(len(bytes.fromhex(value)) == 32 for value in source["files"].values())


def test_a_bundle_is_built_packed_and_fetched_whole_and_no_other(base, checkpoint, pack, tmp_path, capsys):
    recipe = filled_in(tmp_path / "recipe", base, checkpoint, pack)
    built = assemble.build(recipe, tmp_path / "bundle")
    verify(built)
    assert objection(built) == UNSEEN
    assert main(["pack", str(tmp_path / "bundle"), str(tmp_path / "b.tar")]) == 0
    sha256 = capsys.readouterr().out.split()[-2]
    fetched = assemble.fetch(str(tmp_path / "b.tar"), sha256, tmp_path / "fetched")
    assert fetched.files == built.files
    with pytest.raises(BundleError, match="not the archive asked for"):
        assemble.fetch(str(tmp_path / "b.tar"), "0" * 64, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    assert main(["fetch", str(tmp_path / "gone.tar"), str(tmp_path / "other"), "--sha256", sha256]) == 1
    assert main(["build", str(recipe), str(tmp_path / "bundle")]) == 1
    assert "[evaluation] data is for the site to fill in" in capsys.readouterr().err
    assert main(["build", str(recipe), str(tmp_path / "bundle"), "--data", str(tmp_path)]) == 1
    assert f"There is no {tmp_path / 'manifest.csv'}" in capsys.readouterr().err
    with pytest.raises(BundleError, match="exists"):
        assemble.build(recipe, tmp_path / "bundle")


def test_figures_of_trainings_come_along_and_missing_ones_are_told(base, checkpoint, pack, tmp_path):
    recipe = filled_in(tmp_path / "recipe", base, checkpoint, pack)
    text = recipe.read_text().replace('base = "base"', 'base = "base"\nfigures = ["tuned/figures.json"]')
    recipe.write_text(text)
    with pytest.raises(BundleError, match=r"tuned/figures.json, which the recipe names, cannot be read"):
        assemble.build(recipe, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    (tmp_path / "recipe" / "tuned").mkdir()
    (tmp_path / "recipe" / "tuned" / "figures.json").write_text("[]")
    assert "inpainter/tuned-figures.json" in assemble.build(recipe, tmp_path / "bundle").files


def test_bundles_are_listed_and_one_that_cannot_be_read_does_not_hide_the_others(tmp_path, capsys):
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
    shutil.copy(RECIPE, tmp_path / "good" / "bundle.toml")
    (tmp_path / "bad" / "bundle.toml").write_text("name = ")
    assert main(["list", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert read_bundle(tmp_path / "good").name in said.out
    assert "bad/bundle.toml is not valid TOML" in said.err
    assert main(["list", str(tmp_path / "nowhere")]) == 1
    assert "holds no bundles" in capsys.readouterr().err


def test_an_address_that_is_not_https_is_not_asked(tmp_path):
    with pytest.raises(BundleError, match="neither a file nor an https address"):
        assemble.fetch("http://127.0.0.1:1/b.tar", "0" * 64, tmp_path / "bundle")


def test_an_archive_that_wants_out_of_its_folder_is_refused(tmp_path):
    import tarfile

    (tmp_path / "evil").write_text("x")
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        tar.add(tmp_path / "evil", "../evil")
    with pytest.raises(BundleError, match="cannot be unpacked"):
        assemble.fetch(str(tmp_path / "b.tar"), digest(tmp_path / "b.tar"), tmp_path / "in" / "other")
    assert not (tmp_path / "in" / "evil").exists()


def test_a_face_pack_without_models_is_refused(tmp_path):
    bundle = assemble.draft(tmp_path / "bundle", RECIPE)
    (tmp_path / "pack").mkdir()
    with pytest.raises(BundleError, match="no ONNX files"):
        assemble.put_faces(bundle, tmp_path / "pack")


def test_what_was_imported_is_painted_with(base, tmp_path):
    from inference.inpaint.inpainter import DiffusionInpainter

    import_inpaint(InpaintSource(str(base)), tmp_path / "inpainter")
    painter = DiffusionInpainter(tmp_path / "inpainter", steps=2, scheduler="dpmsolver++")
    images = np.full((1, sd2.SIDE, sd2.SIDE, 3), 90, np.uint8)
    hide = np.ones((1, sd2.SIDE, sd2.SIDE), np.bool_)
    assert painter.inpaint(images, hide, ["acne"], [1]).std() > 0

"""How fast Stable Diffusion 2 inpainting paints here, beside the default pipeline of diffusers; and PointRend.

    python benchmarks/gpu_inpaint.py                             # on a GPU: full size, random weights, no download
    python benchmarks/gpu_inpaint.py --tiny --device cpu         # the same at a size a CPU can run: proves the script
    python benchmarks/gpu_inpaint.py --bundle bundles/sd2        # real weights: their time, and what each option costs
    python benchmarks/gpu_inpaint.py --triton HOST:PORT --bundle bundles/sd2      # end to end through a server

Random weights are fine for time and say nothing about quality, which is then called unmeasured. Images a second are
judged against the ceiling 790 / (N · g · 0.804 + 3.63) of an H200: N steps, g = 2 with guidance, else 1.
"""

import argparse
import json
import platform
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from inference.bundle import read_bundle, verify
from inference.execution import GRAPHS, Execution, execution
from inference.inpaint.denoiser import Denoiser
from inference.inpaint.inpainter import DiffusionInpainter, load_pipeline
from inference.inpaint.sd2 import random_pipeline
from inference.pointrend.config import PointRendConfig
from inference.pointrend.model import PointRend, channels_last

TEXT = "a clinical photograph of a face"
GUIDANCE = 7.5
UNMEASURED = "unmeasured"


@dataclass(frozen=True)
class Variant:
    """One way to compute, each of the list with what those above it have."""

    name: str
    run: Execution
    reuse: int = 1
    cached: bool = True
    math_attention: bool = False


def variants(run, *, compiled):
    plain = replace(run, channels_last=False, fused_projections=False, compile="", batches=(64,))
    last = replace(plain, channels_last=True)
    fused = replace(last, fused_projections=True)
    listed = [
        Variant("own steps, attention as plain products", plain, math_attention=True, cached=False),
        Variant("+ scaled_dot_product_attention", plain, cached=False),
        Variant("+ texts encoded once", plain),
        Variant("+ channels_last", last),
        Variant("+ fused projections", fused),
    ]
    if compiled:
        listed.append(Variant("+ torch.compile", replace(fused, compile="default")))
        if run.device != "cpu":
            listed.append(Variant("+ CUDA graphs", replace(fused, compile=GRAPHS)))
            listed.append(Variant("+ max-autotune", replace(fused, compile="max-autotune")))
    best = listed[-2] if compiled and run.device != "cpu" else listed[-1]
    listed += [
        Variant(f"{best.name}, deep layers every {every} steps", best.run, reuse=every) for every in (2, 3)
    ]
    return listed


def clock(device):
    """Seconds; on a CPU those that this process had of it, so that other work there does not count."""
    if device == "cpu":
        return time.process_time()
    if device != "wall":
        torch.cuda.synchronize()
    return time.perf_counter()


def rate(call, count, device, repeats):
    """Images a second: the median of ``repeats`` calls after one that does not count."""
    call()
    took = []
    for _ in range(repeats):
        begin = clock(device)
        call()
        took.append(clock(device) - begin)
    return count / statistics.median(took)


def question(side, count):
    """Pictures, what to hide of them, texts and seeds."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    hide = np.zeros((count, side, side), np.bool_)
    hide[:, side // 4 : -side // 4, side // 5 : -side // 5] = True
    return images, hide, [TEXT] * count, list(range(count))


def painter(pipeline, variant, count, steps, guidance, scheduler="dpmsolver++"):
    made = DiffusionInpainter(
        pipeline,
        steps=steps,
        guidance=guidance,
        scheduler=scheduler,
        reuse=variant.reuse,
        execution=replace(variant.run, batches=(count,)),  # of exactly this size: nothing is computed in vain
    )

    def paint():
        if not variant.cached:
            made._states.cache_clear()
        with sdpa_kernel(SDPBackend.MATH) if variant.math_attention else nullcontext():
            return made.inpaint(*question(made.size_px, count))

    return paint


def default_pipeline(pipeline, run, steps, count=1):
    """diffusers' own call, nothing changed but the number format: 50 steps, guidance, one picture."""
    pipeline.to(run.device, run.dtype)
    pipeline.set_progress_bar_config(disable=True)
    side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    images, hide, texts, _ = question(side, count)
    picture = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mask = torch.from_numpy(hide).float()[:, None]

    def paint():
        return pipeline(
            prompt=texts,
            image=picture,
            mask_image=mask,
            height=side,
            width=side,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            output_type="pt",
        ).images

    return paint


def ceiling(steps, guidance, tiny):
    return float("nan") if tiny else 790 / (steps * (2 if guidance > 1 else 1) * 0.804 + 3.63)


def flops(tiny):
    """TFLOP of one question to the UNet, all of it and its outer layers, counted without computing them."""
    with torch.device("meta"):
        unet = random_pipeline(tiny=tiny).unet
        side, width = unet.config.sample_size, unet.config.cross_attention_dim
        given = (torch.randn(1, 9, side, side), torch.ones(1), torch.randn(1, 77, width))
        denoiser = Denoiser(unet, Execution(device="meta"), reuse=2)
        counted = []
        noise = denoiser.steps()
        for step in range(2):
            with FlopCounterMode(display=False) as counter:
                noise(step, *given)
            counted.append(counter.get_total_flops() / 1e12)
    return counted


def pointrend(device, batches, repeats, tiny):
    """Pictures a second of PointRend, logits of 512 × 512 (tiny: 64 × 64) from pictures on the device, float32."""
    width = {"res2_channels": 32, "width_per_group": 8, "stem_channels": 8} if tiny else {}
    model = (
        channels_last(PointRend(PointRendConfig(depth=50, norm="BN", classes=7, **width))).eval().to(device)
    )
    side = 64 if tiny else 512
    rows = []
    for count in batches:
        bgr = (torch.rand(count, 3, side, side, device=device) * 255).contiguous(
            memory_format=torch.channels_last
        )
        with torch.inference_mode():
            rows.append((count, rate(lambda bgr=bgr: model(bgr), count, device, repeats)))
    return rows


def psnr(found, wanted, where):
    error = np.square(found[where].astype(float) - wanted[where]).mean()
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def perceptual(found, wanted, judge):
    if judge is None:
        return UNMEASURED
    one, two = (torch.from_numpy(x).permute(0, 3, 1, 2).float() / 127.5 - 1 for x in (found, wanted))
    with torch.inference_mode():
        return float(judge(one, two).mean())


def quality(folder, data, run, options):
    """PSNR under *hide* (and LPIPS, where installed) of each way against many steps, on real weights."""
    from inference.inpaint.data import load_portraits, samples

    try:
        from lpips import LPIPS

        judge = LPIPS(net="alex").eval()
    except ImportError:
        judge = None
    pipeline = load_pipeline(folder)
    side = int(pipeline.unet.config.sample_size) * int(pipeline.vae_scale_factor)
    portraits = load_portraits(data, held=True, variants=0, seed=0)
    drawn = list(samples(portraits, range(min(options.pictures, len(portraits.labels))), side, 0))
    images, hide = np.stack([one.image for one in drawn]), np.stack([one.hide for one in drawn])
    if images.dtype != np.uint8:
        images = np.clip(np.rint(images), 0, 255).astype(np.uint8)
    asked = (images, hide.astype(np.bool_), [one.prompt for one in drawn], list(range(len(drawn))))
    exact = replace(run, dtype=torch.float32, fused_projections=False, compile="", batches=(8,))

    def painted(steps, scheduler, reuse=1, how=exact):
        made = DiffusionInpainter(
            folder,
            steps=steps,
            guidance=options.quality_guidance,
            scheduler=scheduler,
            reuse=reuse,
            execution=how,
        )
        return made.inpaint(*asked)

    wanted = painted(options.reference_steps, "dpmsolver++")
    rows = []

    def judged(name, found):
        rows.append((name, psnr(found, wanted, asked[1]), perceptual(found, wanted, judge)))

    judged("unipc, as many steps as the reference", painted(options.reference_steps, "unipc"))
    for scheduler in ("dpmsolver++", "unipc"):
        for steps in options.steps:
            judged(f"{scheduler}, {steps} steps", painted(steps, scheduler))
    for reuse in (2, 3):
        judged(f"dpmsolver++, 20 steps, deep layers every {reuse}", painted(20, "dpmsolver++", reuse))
    judged(
        "dpmsolver++, 20 steps, bfloat16",
        painted(20, "dpmsolver++", how=replace(exact, dtype=torch.bfloat16)),
    )
    return rows


def through_triton(url, folder, batches, repeats):
    """Images a second through a Triton server's inpainter, one picture a request, as many requests at once."""
    from inference.endpoints import Endpoints, Terms
    from inference.triton import TritonInpainter

    bundle = read_bundle(folder)
    verify(bundle)
    asked = TritonInpainter(bundle, Endpoints([url], Terms(deadline_s=600)))
    rows = []
    for count in batches:
        images, hide, texts, seeds = question(asked.size_px, count)
        with ThreadPoolExecutor(count) as pool:

            def one(n, images=images, hide=hide, texts=texts, seeds=seeds):
                return asked.inpaint(images[n : n + 1], hide[n : n + 1], texts[n : n + 1], seeds[n : n + 1])

            def together(pool=pool, one=one, count=count):
                return list(pool.map(one, range(count)))

            rows.append((count, rate(together, count, "wall", repeats)))
    return rows


def shown(cell):
    if not isinstance(cell, float):
        return str(cell)
    return "–" if np.isnan(cell) else f"{cell:.3g}"


def show(title, columns, rows):
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(shown(cell) for cell in row))
    Console(width=120).print(table)


def machine(device):
    name = platform.processor() or platform.machine()
    if device != "cpu":
        name = torch.cuda.get_device_name(device)
    return f"{name}, torch {torch.__version__}"


def numbers(text):
    return [int(part) for part in text.split(",")]


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")
    parser.add_argument(
        "--tiny", action="store_true", help="the same shapes at 64 × 64 and 1/2000 of the weights"
    )
    parser.add_argument("--bundle", type=Path, help="folder of a bundle with real weights")
    parser.add_argument("--data", type=Path, help="folder of portraits, for the quality of real weights")
    parser.add_argument("--triton", help="HOST:PORT of a Triton server's gRPC that serves the bundle")
    parser.add_argument("--batches", type=numbers, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--steps", type=numbers, default=[50, 25, 20, 8])
    parser.add_argument(
        "--ablation-batch", type=int, default=8, help="batch in which the options are compared"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="default: on a GPU")
    parser.add_argument("--only", choices=["time", "quality"], help="leave the other out")
    parser.add_argument("--pictures", type=int, default=16, help="portraits that quality is measured on")
    parser.add_argument("--reference-steps", type=int, default=50)
    parser.add_argument("--quality-guidance", type=float, default=1.0)
    parser.add_argument("--out", type=Path, help="JSON to write")
    return parser.parse_args()


def timed(given, run, pipeline):
    compiled = given.compile if given.compile is not None else run.device != "cpu"
    ways = variants(run, compiled=compiled)
    base = rate(default_pipeline(pipeline, run, 50), 1, run.device, given.repeats)
    found = {"default": base, "tflop": flops(given.tiny)}
    layers = zip(("all layers", "outer layers alone"), found["tflop"], strict=True)
    show("UNet, one question", ("what", "TFLOP"), layers)
    rows = [("diffusers' pipeline, 50 steps, batch 1", base, 1.0, base / ceiling(50, GUIDANCE, given.tiny))]
    found["ablation"] = []
    count = given.ablation_batch
    for way in ways:
        speed = rate(painter(pipeline, way, count, 20, GUIDANCE), count, run.device, given.repeats)
        rows.append((way.name, speed, speed / base, speed / ceiling(20, GUIDANCE, given.tiny)))
        found["ablation"].append((way.name, speed))
    show(
        f"Options one after another, 20 steps, guidance, batch {count}",
        ("way", "images/s", "× default", "of the ceiling"),
        rows,
    )
    best = max((way for way in ways if way.reuse == 1), key=lambda way: dict(found["ablation"])[way.name])
    found["best"], found["grid"], rows = best.name, [], []
    for guidance in (GUIDANCE, 1.0):
        for steps in given.steps:
            for count in given.batches:
                speed = rate(
                    painter(pipeline, best, count, steps, guidance), count, run.device, given.repeats
                )
                limit = ceiling(steps, guidance, given.tiny)
                said = "yes" if guidance > 1 else "no"
                rows.append((steps, said, count, speed, speed / base, limit, speed / limit))
                found["grid"].append((steps, guidance, count, speed))
    show(
        f"Ours ({best.name})",
        ("steps", "guidance", "batch", "images/s", "× default", "ceiling", "of it"),
        rows,
    )
    return found


def main():
    given = arguments()
    run = execution(given.device)
    print(machine(run.device), "tiny" if given.tiny else "full size", run.dtype)
    found = {"machine": machine(run.device), "tiny": given.tiny}
    folder = None
    if given.bundle:
        bundle = read_bundle(given.bundle)
        verify(bundle)
        folder = given.bundle / bundle.inpainter["folder"]
    if given.only != "quality":
        # The real weights paint at their own size; the ceiling is that of full size.
        with torch.device(run.device):
            pipeline = (
                load_pipeline(folder) if folder and not given.tiny else random_pipeline(tiny=given.tiny)
            )
        found |= timed(given, run, pipeline)
        del pipeline
        found["pointrend"] = pointrend(run.device, given.batches, given.repeats, given.tiny)
        show("PointRend, ResNet-50-FPN", ("batch", "images/s"), found["pointrend"])
    if given.triton:
        found["triton"] = through_triton(given.triton, given.bundle, given.batches, given.repeats)
        show(f"Through Triton at {given.triton}", ("requests at once", "images/s"), found["triton"])
    if folder and given.data and given.only != "time":
        found["quality"] = quality(folder, given.data, run, given)
        title = f"Against {given.reference_steps} steps of dpmsolver++, {given.pictures} portraits"
        show(title, ("way", "PSNR under hide, dB", "LPIPS"), found["quality"])
    else:
        print(
            f"Quality of the options: {UNMEASURED}; it needs real weights (--bundle) and portraits (--data)."
        )
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

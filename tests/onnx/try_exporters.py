#!/usr/bin/env python3
"""What both exporters of PyTorch make of networks of torchvision and timm, in solder-run and in onnxruntime.

    try_exporters.py SOLDER_RUN FOLDER [--only PART,...] [--by script|dynamo] [--refusals]

needs torch, torchvision, timm, onnxscript, onnx and onnxruntime, and is no part of `make test`. Weights are random, and
so are all biases, scales and statistics of norms, so that a mistake in one of them shows; nothing is downloaded. Files
and answers stay in FOLDER, where later calls find them.

Errors are relative L2 norms to the same network in float64. A float32 row is "ok" where solder's is at most 5e-6 or
four times onnxruntime's, whichever is larger; of float16 at most 2e-3 or twice onnxruntime's. Exit status 1: a row
that ran is not ok.
"""
import argparse
import contextlib
import logging
import pathlib
import re
import subprocess
import sys
import tempfile
import warnings
import zlib

import numpy
import onnx
import onnxruntime
import timm
import torch
import torchvision
from torch import nn

TORCHVISION = """resnet18 resnet50 mobilenet_v2 mobilenet_v3_large efficientnet_b0 densenet121 vgg11_bn
shufflenet_v2_x1_0 googlenet squeezenet1_1 regnet_y_400mf convnext_tiny mnasnet1_0 inception_v3 alexnet swin_t
swin_v2_t vit_b_16 maxvit_t efficientnet_v2_s""".split()
SEGMENTATION = "fcn_resnet50 deeplabv3_resnet50 deeplabv3_mobilenet_v3_large lraspp_mobilenet_v3_large".split()
TIMM = """cspdarknet53 darknet53 mobilenetv4_conv_small mobilenetv4_hybrid_medium efficientnet_lite0 resnest14d
hrnet_w18_small repvgg_a0 ghostnet_100 dla34 nfnet_l0 mixer_b16_224 poolformer_s12 convmixer_768_32 ese_vovnet19b_dw
xception41 sequencer2d_s vit_tiny_patch16_224 deit_tiny_patch16_224 efficientformer_l1 edgenext_xx_small
fastvit_t8 levit_128s repghostnet_100 mobileone_s0 regnetz_b16 resnetv2_50 tf_efficientnet_b0 gernet_s eca_resnet33ts
lcnet_050 tinynet_e hardcorenas_a selecsls42 visformer_tiny coat_lite_tiny xcit_nano_12_p16_224 cait_xxs24_224
twins_svt_small pvt_v2_b0 mobilevit_xxs gcresnet33ts halonet26t botnet26t_256 lambda_resnet26t inception_next_tiny
starnet_s1 rdnet_tiny focalnet_tiny_srf davit_tiny caformer_s18 hgnetv2_b0 eva02_tiny_patch14_224""".split()
SIZES = {"inception_v3": 299, "swin_v2_t": 256, "botnet26t_256": 256, "halonet26t": 256, "lambda_resnet26t": 256,
         "eva02_tiny_patch14_224": None, "gcresnet33ts": 256, "eca_resnet33ts": 256, "mobilevit_xxs": 256}
# Exporter, opset (0: its default), and what is different; beside both with nothing different.
VARIANTS = {
    "resnet18": [("script", 11, ""), ("script", 13, ""), ("script", 20, ""), ("dynamo", 20, ""), ("dynamo", 23, ""),
                 ("dynamo", 0, "half"), ("script", 0, "half"), ("dynamo", 0, "batch"), ("script", 0, "batch")],
    "mobilenet_v3_large": [("script", 11, ""), ("script", 13, ""), ("dynamo", 20, ""), ("dynamo", 0, "half"),
                           ("dynamo", 0, "batch"), ("script", 0, "batch")],
    "shufflenet_v2_x1_0": [("script", 11, ""), ("script", 0, "batch"), ("dynamo", 0, "batch")],
    "convnext_tiny": [("script", 13, ""), ("script", 17, ""), ("dynamo", 0, "half"), ("dynamo", 20, "")],
    "deeplabv3_mobilenet_v3_large": [("script", 11, ""), ("dynamo", 20, "")],
    "vit_tiny_patch16_224": [("script", 11, ""), ("script", 0, "batch"), ("dynamo", 0, "batch"), ("dynamo", 23, "")],
    "unet": [("script", 11, ""), ("dynamo", 20, ""), ("script", 0, "batch"), ("dynamo", 0, "batch")],
    "audio": [("script", 11, ""), ("dynamo", 20, ""), ("script", 0, "batch"), ("dynamo", 0, "batch")],
}


class UNet(nn.Module):
    """Down by strides and pools, up by ConvTranspose, Upsample and pixel shuffle."""

    def __init__(self):
        super().__init__()
        def block(c, k):
            return nn.Sequential(nn.Conv2d(c, k, 3, padding=1, padding_mode="reflect"), nn.GroupNorm(4, k), nn.SiLU())
        self.first, self.second, self.third = block(3, 16), block(16, 32), block(32, 64)
        self.fourth = block(64, 64)
        self.up3 = nn.ConvTranspose2d(64, 32, 2, stride=2)
        self.up2 = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.up1 = nn.PixelShuffle(2)
        self.back3, self.back2 = block(96, 32), block(64, 64)
        self.last = nn.Sequential(nn.InstanceNorm2d(32, affine=True), nn.PReLU(32), nn.Conv2d(32, 2, 1))

    def forward(self, x):
        a = self.first(x)
        b = self.second(nn.functional.max_pool2d(a, 2))
        c = self.third(nn.functional.avg_pool2d(b, 2))
        d = self.fourth(nn.functional.avg_pool2d(c, 3, 2, 1, count_include_pad=False))
        c = self.back3(torch.cat([c, self.up3(d)], 1))
        b = self.back2(torch.cat([b, self.up2(c)], 1))
        return self.last(torch.cat([a, self.up1(b)], 1)).softmax(1)


class Audio(nn.Module):
    """One-dimensional: dilated and grouped convolutions, gates, an upsampling ConvTranspose1d, attention over time."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(8, 32, 7, padding=3)
        self.dilated = nn.ModuleList(nn.Conv1d(32, 64, 3, padding=2**i, dilation=2**i) for i in range(4))
        self.mixes = nn.ModuleList(nn.Conv1d(32, 32, 1) for _ in range(4))
        self.norm = nn.BatchNorm1d(32)
        self.grouped = nn.Conv1d(32, 32, 5, padding=2, groups=8)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.up = nn.ConvTranspose1d(32, 16, 8, stride=4, padding=2)
        self.last = nn.Conv1d(16, 4, 3, padding=1, padding_mode="replicate")

    def forward(self, x):
        x = self.first(x)
        for dilated, mix in zip(self.dilated, self.mixes):
            value, gate = dilated(x).chunk(2, 1)
            x = x + mix(torch.tanh(value) * torch.sigmoid(gate))
        x = nn.functional.elu(self.grouped(self.norm(x))).transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x = nn.functional.leaky_relu(self.up(x.transpose(1, 2)))
        return torch.tanh(self.last(nn.functional.pad(x, (1, 2))))


class Pieces(nn.Module):
    """What transformers and detectors write by hand."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(1, 64, 48))
        self.qkv = nn.Linear(48, 144)
        self.norm = nn.LayerNorm(48)
        self.layer = nn.TransformerEncoderLayer(48, 4, 96, batch_first=True, activation="gelu")
        self.scale = nn.Parameter(torch.rand(48))

    def forward(self, x):
        n = x.shape[0]
        x = x + self.embedding.expand(n, -1, -1)
        q, k, v = self.qkv(self.norm(x)).reshape(n, -1, 3, 4, 12).permute(2, 0, 3, 1, 4).unbind(0)
        mask = torch.triu(torch.full((64, 64), float("-inf")), diagonal=1).to(x.dtype)
        x = x + nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(n, 64, 48)
        x = self.layer(x)
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.scale
        half = x.chunk(2, -1)
        angle = torch.arange(64, dtype=x.dtype)[:, None] * torch.linspace(0.1, 1, 24, dtype=x.dtype)
        x = torch.cat([half[0] * angle.cos() - half[1] * angle.sin(), half[0] * angle.sin() + half[1] * angle.cos()], -1)
        x = torch.einsum("nld,nmd->nlm", x, nn.functional.normalize(x, dim=-1))
        x = torch.where(x > 0, x, x.roll(1, 1)).masked_fill(torch.ones(64, 64).tril().bool().logical_not(), 0.5)
        return x.clamp(-4, 4).flip(1), x.amax(-1), x.std(-1)


OWN = {"unet": (UNet, (1, 3, 64, 96)), "audio": (Audio, (1, 8, 200)), "pieces": (Pieces, (2, 64, 48))}


def build(name):
    """A network in evaluation mode, and the shape of its input."""
    torch.manual_seed(zlib.crc32(name.encode()))
    if name in OWN:
        return OWN[name][0]().eval(), OWN[name][1]
    size = SIZES.get(name, 224)
    if name in TORCHVISION:
        options = {"init_weights": True, "transform_input": True} if name in ("googlenet", "inception_v3") else {}
        net = torchvision.models.get_model(name, weights=None, **options)
    elif name in SEGMENTATION:
        size = 128
        net = torchvision.models.get_model(name, weights=None, weights_backbone=None)
        net = OnlyOut(net)
    else:
        net = timm.create_model(name, pretrained=False)
        size = size or net.default_cfg["input_size"][-1]
    return net.eval(), (1, 3, size, size)


class OnlyOut(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)["out"]


def randomise(net, shape):
    """Statistics of batch norms as they would be after training, and nothing that is the same number throughout."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.numel() > 1 and parameter.min() == parameter.max():
                parameter += 0.2 * torch.randn_like(parameter)
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
        net(torch.randn((2,) + shape[1:]))
        for norm in norms:
            norm.eval()
            norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
            norm.running_var *= 0.8 + 0.4 * torch.rand_like(norm.running_var)


def export(net, x, exporter, opset, what, path):
    """Writes the file; `what` may be half or batch."""
    options = {"opset_version": opset} if opset else {}
    if what == "batch" and exporter == "script":
        options["dynamic_axes"] = {"x": {0: "batch"}}
    elif what == "batch":
        options["dynamic_shapes"] = ({0: torch.export.Dim("batch", min=1, max=64)},)
        x = torch.cat([x, x])
    with contextlib.redirect_stdout(None):
        torch.onnx.export(net, (x,), path, dynamo=exporter == "dynamo", input_names=["x"], verbose=False, **options)


def outputs_of(result):
    tensors = [result] if isinstance(result, torch.Tensor) else list(result)
    return [t.double().numpy() for t in tensors if t is not None]


def prepare(name, exporter, opset, what, folder):
    """Exports and answers: the file, and in files beside it x, float64's and onnxruntime's results."""
    base = folder / "-".join(filter(None, [name, exporter, str(opset or ""), what]))
    path = base.with_name(base.name + ".onnx")
    answers = base.with_name(base.name + ".npz")
    if answers.exists():
        return path, answers
    net, shape = build(name)
    randomise(net, shape)
    dtype = torch.float16 if what == "half" else torch.float32
    net = net.to(dtype)
    x = torch.randn((3 if what == "batch" else shape[0],) + shape[1:]).to(dtype)
    with torch.no_grad():
        export(net, x[:1] if what == "batch" else x, exporter, opset, what, path)
        exact = outputs_of(net.double()(x.double()))
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        other = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    except Exception as error:  # onnxruntime has no common base of its errors
        print(f"{base.name}: onnxruntime: {error}", file=sys.stderr)
        other = []
    numpy.savez(answers, x=x.numpy(), **{f"exact{i}": e for i, e in enumerate(exact)},
                **{f"other{i}": o for i, o in enumerate(other)})
    return path, answers


def relative_error(ours, exact):
    if ours.shape != exact.shape:
        return float("inf")
    norm = numpy.linalg.norm(exact)
    return float(numpy.linalg.norm(ours.astype(numpy.float64) - exact) / (norm if norm else 1))


def run_solder(solder_run, path, answers, names):
    """solder-run's results in order, or its message."""
    with tempfile.TemporaryDirectory() as scratch:
        x = answers["x"]
        numpy.save(f"{scratch}/x.npy", x)
        command = [solder_run, path, "--input", f"x={scratch}/x.npy", "--device", "cpu",
                   "--shape", "x=" + ",".join(map(str, x.shape))]
        for i, name in enumerate(names):
            command += ["--output", f"{name}={scratch}/{i}.npy"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return None, done.stderr.strip()
        return [numpy.load(f"{scratch}/{i}.npy") for i in range(len(names))], ""


def row(name, exporter, opset, what, options):
    """One line of the table; true unless an answer is wrong."""
    label = f"{name:32} {exporter:6} {what:5}"
    try:
        path, answers = prepare(name, exporter, opset, what, options.folder)
    except Exception as error:
        print(f"{label} {opset or '':>5} not exported: {type(error).__name__}: {str(error).splitlines()[0][:90]}")
        return True
    model = onnx.load(path, load_external_data=False)
    version = max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    label += f" {version:5} {len(model.graph.node):5} "
    answers = numpy.load(answers)
    results, message = run_solder(options.solder_run, path, answers, [o.name for o in model.graph.output])
    if results is None:
        lines = message.splitlines()
        print(f"{label} refused: " + ("\n    ".join(lines) if options.refusals else refusal(lines)), flush=True)
        return True
    errors = [relative_error(ours, answers[f"exact{i}"]) for i, ours in enumerate(results)]
    others = [relative_error(answers[f"other{i}"], answers[f"exact{i}"])
              for i in range(len(results)) if f"other{i}" in answers]
    worst, other = max(errors), max(others, default=float("nan"))
    bound = max(2e-3, 2 * other) if what == "half" else max(5e-6, 4 * other)
    is_ok = worst <= bound if others else worst <= bound or worst <= (2e-3 if what == "half" else 5e-6)
    print(f"{label} {worst:9.1e} {other:9.1e} {'ok' if is_ok else 'WRONG'}", flush=True)
    return is_ok


def refusal(lines):
    """The operators in the message, in short."""
    parts = [re.sub(r"\(.*?\): ", "", line).strip() for line in lines[1:]]
    return "; ".join(parts) or lines[0] if lines else "no message"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("solder_run", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--only", default="", help="networks whose names contain one of these")
    parser.add_argument("--refusals", action="store_true", help="whole messages")
    parser.add_argument("--by", default="script,dynamo", help="exporters")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    onnxruntime.set_default_logger_severity(3)
    torch.backends.mha.set_fastpath_enabled(False)  # which exporters do not know
    print(f"{'network':32} {'by':6} {'':5} {'opset':>5} {'nodes':>5}  {'solder':>9} {'ort':>9}")
    wanted = [part for part in options.only.split(",") if part]
    all_ok = True
    for name in [*OWN, *TORCHVISION, *SEGMENTATION, *TIMM]:
        if wanted and not any(part in name for part in wanted):
            continue
        for variant in [("script", 0, ""), ("dynamo", 0, "")] + VARIANTS.get(name, []):
            if variant[0] in options.by:
                all_ok &= row(name, *variant, options)
    return 0 if all_ok else 1


if __name__ == "__main__":
    sys.exit(main())

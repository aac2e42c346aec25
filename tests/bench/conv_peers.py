"""PyTorch's convolution, bias and mish on the shapes of bench_conv: eager, NCHW, cudnn.benchmark on, TF32 as --math says.

A shape is "n c h w k r s pad_top pad_left pad_bottom pad_right stride_h stride_w dil_h dil_w num_mish low high seconds",
x being uniform in [low, high). Its median milliseconds come out on a line of stdout, then the median after so many
seconds of calls back to back (0 where they are 0).
"""
import argparse
import os
import sys

import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
from peer_timing import median_ms, sustained_median_ms  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--math", choices=("tf32", "fp32"), required=True)
    parser.add_argument("shapes", nargs="+")
    options = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = options.math == "tf32"
    torch.backends.cudnn.benchmark = True
    for shape in options.shapes:
        *numbers, low, high, seconds = shape.split()
        n, c, h, w, k, r, s, top, left, bottom, right, sh, sw, dh, dw, num_mish = map(int, numbers)
        # Symmetric padding gives the same outputs for the shapes of bench_conv; what it lacks at the end goes into x.
        x = torch.rand(n, c, h + max(0, bottom - top), w + max(0, right - left), device="cuda")
        x = x.mul_(float(high) - float(low)).add_(float(low))
        weight = torch.randn(k, c, r, s, device="cuda") / (c * r * s) ** 0.5
        bias = torch.randn(k, device="cuda")
        padding = (top, left)

        def run():
            y = F.conv2d(x, weight, bias, (sh, sw), padding, (dh, dw))
            for _ in range(num_mish):
                y = F.mish(y)
            return y

        with torch.no_grad():
            sustained = sustained_median_ms(run, float(seconds)) if float(seconds) > 0 else 0
            print(median_ms(run), sustained, flush=True)
        del x, weight, bias
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()

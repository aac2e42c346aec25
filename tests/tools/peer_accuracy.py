"""peer_accuracy.py RESULTS: the page tests/ACCURACY.md on stdout, from the lines that the accuracy tests print.

Beside solder's worst cases stand PyTorch's, measured here on the GPU over the same inputs: all 2^32 float32 values,
each function against its definition in float64.
"""

import math
import re
import sys

CHUNK = 1 << 26

PAGE = """# Worst cases of every unary function

Made by `make accuracy` on {gpu}, CUDA {cuda}, PyTorch {torch}. The tests hold solder to the bound that the formula's
docstring states (ops/elementwise/formulas.h) over all 2^32 float32 inputs on the GPU and over 2^24 of them on the CPU: {case_gpu}
and {case_cpu}.

- ULP: the distance from the exact value (float64) in spacings of float32 there, over the inputs whose exact result is a
  normal float32. 0 is exact, 0.5 correctly rounded.
- Subnormal results: the largest distance in steps of 2^-149.
- NaN is where the exact value is NaN, zeros have its sign, and it overflows where the bound says; the tests check every
  input. Infinity counts as 2^128.
- double_mish is stepwise: mish of mish(x) as float32, and equal to that bit for bit.
- PyTorch: float32 on the same GPU. Where its results are NaN or infinite and should not be, or the other way round, the
  number of such inputs follows: there an infinity one rounding early counts, too.

| function | bound | solder, GPU | at | subnormal, GPU | solder, CPU | at | PyTorch, GPU | at |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""

LINE = re.compile(
    r"accuracy: (?P<name>\S+) on (?P<device>GPU|CPU): (?P<ulp>\S+) ULP at (?P<input>\S+), bound (?P<bound>[^;]+); "
    r"subnormal results (?P<steps>\S+) steps"
)


def peers(torch):
    """By name: (PyTorch's float32 function, the exact value in float64), or what makes these from parameters."""
    F = torch.nn.functional
    selu_scale, selu_alpha = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

    def mish(x):
        return x * torch.tanh(torch.log1p(torch.exp(x)))

    def hard(x):
        return torch.clamp(x + 3, 0, 6) / 6

    def gelu_tanh(x):
        return x / (1 + torch.exp(-2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))

    def elu(alpha):
        alpha64 = float(torch.tensor(alpha))  # as float32
        return lambda x: F.elu(x, alpha), lambda x: torch.where(x > 0, x, alpha64 * torch.expm1(x))

    def leaky_relu(slope):
        slope64 = float(torch.tensor(slope))
        return lambda x: F.leaky_relu(x, slope), lambda x: torch.where(x > 0, x, slope64 * x)

    def clip(low, high):
        return (lambda x: torch.clamp(x, low, high),) * 2

    return {
        "abs": (torch.abs, torch.abs),
        "neg": (torch.neg, torch.neg),
        "exp": (torch.exp, torch.exp),
        "log": (torch.log, torch.log),
        "sqrt": (torch.sqrt, torch.sqrt),
        "rsqrt": (torch.rsqrt, lambda x: 1 / torch.sqrt(x)),
        "reciprocal": (torch.reciprocal, lambda x: 1 / x),
        "square": (torch.square, lambda x: x * x),
        "erf": (torch.erf, torch.erf),
        "tanh": (torch.tanh, torch.tanh),
        "sigmoid": (torch.sigmoid, lambda x: 1 / (1 + torch.exp(-x))),
        "softplus": (F.softplus, lambda x: torch.clamp(x, min=0) + torch.log1p(torch.exp(-torch.abs(x)))),
        "relu": (torch.relu, torch.relu),
        "leaky_relu": leaky_relu,
        "elu": elu,
        "selu": (F.selu, lambda x: selu_scale * torch.where(x > 0, x, selu_alpha * torch.expm1(x))),
        "gelu": (F.gelu, lambda x: 0.5 * x * torch.special.erfc(-x / math.sqrt(2))),
        "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), gelu_tanh),
        "silu": (F.silu, lambda x: x / (1 + torch.exp(-x))),
        "hard_sigmoid": (F.hardsigmoid, hard),
        "hard_swish": (F.hardswish, lambda x: x * hard(x)),
        "mish": (F.mish, mish),
        "double_mish": (lambda x: F.mish(F.mish(x)), None),
        "clip": clip,
        "floor": (torch.floor, torch.floor),
        "ceil": (torch.ceil, torch.ceil),
        "round": (torch.round, torch.round),
        "sign": (torch.sign, torch.sign),
        "sin": (torch.sin, torch.sin),
        "cos": (torch.cos, torch.cos),
        "tan": (torch.tan, torch.tan),
        "asin": (torch.asin, torch.asin),
        "acos": (torch.acos, torch.acos),
        "atan": (torch.atan, torch.atan),
        "sinh": (torch.sinh, torch.sinh),
        "cosh": (torch.cosh, torch.cosh),
        "asinh": (torch.asinh, torch.asinh),
        "acosh": (torch.acosh, torch.acosh),
        "atanh": (torch.atanh, torch.atanh),
        "to_float16": (lambda x: x.half().float(), None),
        "to_bfloat16": (lambda x: x.bfloat16().float(), None),
    }


def worst(torch, function, exact_function, inputs_of):
    """(worst ULP, its input, how many results are NaN or infinite against the exact value) over all inputs."""
    worst_ulp, worst_input, wrong = 0.0, 0.0, 0
    for first in range(-(1 << 31), 1 << 31, CHUNK):
        x = torch.arange(first, first + CHUNK, dtype=torch.int32, device="cuda").view(torch.float32)
        y = function(x)
        exact = exact_function(inputs_of(x).double())
        rounded = exact.float()
        comparable = torch.isfinite(rounded) & torch.isfinite(y)
        same = (rounded == y) | (torch.isnan(rounded) & torch.isnan(y))
        wrong += int((~comparable & ~same).sum())
        spacing = ((((exact.view(torch.int64) >> 52) & 0x7FF) - 23) << 52).view(torch.float64)
        ulp = (y.double() - exact).abs_().div_(spacing)
        ulp.masked_fill_(~comparable | (exact.abs() < 2.0**-126), 0)
        index = int(ulp.argmax())
        if float(ulp[index]) > worst_ulp:
            worst_ulp, worst_input = float(ulp[index]), float(x[index])
    return worst_ulp, worst_input, wrong


def measure(names):
    """By name: PyTorch's worst ULP and input as text."""
    import torch

    table = peers(torch)
    results = {}
    for name in names:
        function, *parameters = re.split("[(,)]+", name.rstrip(")"))
        peer = table.get(function, (None, None))
        function, exact = peer(*map(float, parameters)) if callable(peer) else peer
        inputs_of = lambda x: x
        if name == "double_mish":
            exact, inputs_of = table["mish"][1], torch.nn.functional.mish
        if exact is None:
            continue
        ulp, at, wrong = worst(torch, function, exact, inputs_of)
        results[name] = (f"{ulp:.3f}" if ulp < 1e5 else f"{ulp:.2g}") + (f", {wrong} wrong" if wrong else ""), f"{at:.9g}"
        print(f"peer: {name}: {ulp:.3f} ULP at {at:.9g}, {wrong} NaN or infinite against the exact value", file=sys.stderr)
    versions = {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "torch": torch.__version__}
    return results, versions


def main():
    found = {}
    for line in open(sys.argv[1]):
        match = LINE.match(line)
        if match:
            found.setdefault(match["name"], {})[match["device"]] = match
    peer, versions = measure(found)
    page = PAGE.format(
        case_gpu="`build/solder_tests -tc='*accuracy: all*'`", case_cpu="`-tc='*accuracy: 2^24*'`", **versions
    )
    for name, lines in found.items():
        gpu, cpu = lines["GPU"], lines["CPU"]
        cells = [f"`{name}`", gpu["bound"], gpu["ulp"], gpu["input"], gpu["steps"], cpu["ulp"], cpu["input"]]
        cells += peer.get(name, ("not compared", ""))
        page += "| " + " | ".join(cells) + " |\n"
    print(page, end="")


main()

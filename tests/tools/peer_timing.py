"""How the PyTorch peers are timed."""
import torch


def median_ms(function, runs=30):
    """Median milliseconds of `runs` calls by CUDA events, after a warm-up in which libraries choose their kernels."""
    for _ in range(5):
        function()
    times = []
    for _ in range(runs):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return sorted(times)[runs // 2]

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


def sustained_median_ms(function, seconds):
    """Median milliseconds from the end of one call to the end of the next, over the second half of `seconds` of calls
    back to back."""
    ends, times, elapsed = [], [], 0
    while elapsed < seconds * 1e3:
        function()
        ends.append(torch.cuda.Event(enable_timing=True))
        ends[-1].record()
        if len(ends) > 16:
            ends[1].synchronize()
            times.append(ends[0].elapsed_time(ends[1]))
            elapsed += times[-1]
            ends.pop(0)
    torch.cuda.synchronize()
    late = sorted(times[len(times) // 2:])
    return late[len(late) // 2]

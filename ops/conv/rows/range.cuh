#pragma once
// The range guard inside conv_rows_kernel: the sample that sets an image's scale, and the repair's decision.

#include "ops/conv/range/strict.cuh"
#include "ops/conv/rows/params.cuh"
#include "ops/ptx/sm80.cuh"

namespace solder::rows {

/// A sample of an image, shared out among kThreads threads: 1024 elements, from each of 128 equal stretches
/// the 8 of a 32-byte sector at a scattered place. Whole sectors, and ahead of the first rows: single
/// elements at 1024 places, asked for with the rows, took 5.7 us.
template <int kThreads>
struct Sample {
  static constexpr int kLoads = 1024 / kThreads;
  float values[kLoads];

  __device__ void load(const Params& p, int image, int thread) {
    const float* x = p.x + image * p.x_image;
    const int64_t last = p.x_elems - 1;
    // Opaque: otherwise the places of all samples are computed once, ahead of all images, and spill.
    thread = static_cast<int>(sm80::opaque(static_cast<uint32_t>(thread)));
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const uint32_t n = static_cast<uint32_t>(i * kThreads + thread) / 8;
      const uint32_t scatter = (n + 1) * 2654435769u;  // golden ratio: no two columns in step
      const int64_t within = static_cast<int64_t>(static_cast<uint64_t>(p.x_elems) * scatter >> 32);
      const int64_t sector = ((n * p.x_elems + within) >> 7) & ~int64_t{7};
      values[i] = __ldg(x + min(sector + (thread & 7), last));
    }
  }

  /// Bits of the largest finite |x| of the warp's part.
  __device__ uint32_t warp_maximum() const {
    uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const uint32_t bits = __float_as_uint(values[i]) & 0x7fffffffu;
      if (bits < kNonFiniteBits) largest = max(largest, bits);
    }
    return __reduce_max_sync(0xffffffffu, largest);
  }
};

/// The exponent for an image whose sample's maxima, one a warp, are in `maxima`.
template <int kWarps>
__device__ int sample_exponent(const uint32_t* maxima, Math math) {
  uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) largest = max(largest, maxima[i]);
  return range_exponent(largest, range_window(math).guess);
}

/// First step of the repair pass: whether any producer warp has raised an alarm. As little as that, because
/// every run waits for it: gather_ranges alone takes 3 us.
inline __device__ bool any_alarm(const Params& p) {
  const auto* words = reinterpret_cast<const uint32_t*>(p.alarms);
  bool any = false;
  for (int i = static_cast<int>(threadIdx.x); i < p.clusters_per_k_block * kClusterSize; i += kNumThreads)
    any = any || words[i] != 0;
  return __syncthreads_or(any);
}

/// Second step: gathers all images' ranges; every block writes the same words. Returns, the
/// same for the whole block, whether an image is `strict` and whether one of the cluster's own is `rescale`.
struct Repair {
  bool strict, rescale;
};
inline __device__ Repair gather_ranges(const Params& p, Math math, int cluster) {
  const int units_per_image = p.num_strips * p.P, num_images = static_cast<int>(p.strict.shape.N);
  const int begin_image = first_unit(p, cluster) / units_per_image;
  const int end_image = (first_unit(p, cluster + 1) - 1) / units_per_image + 1;
  // So many threads to an image: few images have many slots each, many have few.
  const int group = num_images <= 2 * kRowsNumWarps ? 32 : 4;
  const int member = static_cast<int>(threadIdx.x) % group;
  Repair repair{};
  for (int base = 0; base < num_images; base += kNumThreads / group) {
    const int image = min(base + static_cast<int>(threadIdx.x) / group, num_images - 1);
    const auto slot_of = [&](int unit) { return cluster_of(p, unit) + unit / p.P; };
    const int first = slot_of(image * units_per_image);
    const int last = slot_of((image + 1) * units_per_image - 1);
    uint32_t largest = 0;
    constexpr int kInFlight = 3;  // slots a thread, enough for all clusters on one image
    for (int i = first + member; i <= last; i += group * kInFlight) {
#pragma unroll
      for (int j = 0; j < kInFlight; ++j) {
        const auto* words = reinterpret_cast<const uint4*>(p.slots[min(i + group * j, last)].max_bits);
#pragma unroll
        for (int block = 0; block < kClusterSize; ++block) {
          const uint4 a = words[block];
          largest = max(largest, max(max(a.x, a.y), max(a.z, a.w)));
        }
      }
    }
    for (int distance = group / 2; distance > 0; distance /= 2)
      largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
    const ImageRange range{p.slots[first].exponent, largest};
    const RangeStatus status = range_status(range, math);
    repair.strict = repair.strict || status == RangeStatus::strict;
    repair.rescale =
        repair.rescale || (status == RangeStatus::rescale && image >= begin_image && image < end_image);
    if (member == 0) p.ranges[image] = range;
  }
  repair.strict = __syncthreads_or(repair.strict);  // and the words are there for all threads
  repair.rescale = __syncthreads_or(repair.rescale);
  return repair;
}

/// Out of line: rarely run, and the same for all chains.
/// NOTE: opaque: once the parameters' address is known to somebody, the kernel reads them again after each
/// asm that names memory; otherwise it keeps them all in registers, and spills.
inline __device__ __noinline__ void redo_strict_images(const Params& p) {
  const Params& params = sm80::opaque_object(p);
  direct_images(params.strict, params.epilogue);
}

}  // namespace solder::rows

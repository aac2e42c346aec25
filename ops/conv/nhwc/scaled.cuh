#pragma once
// What conv_nhwc_kernel does about scaled values (ops/scaled.h): a pixel's sums, residual and results are multiplied by
// powers of two of its image. Those of the results follow from a bound, those of x and the residual have been stored.
// Most tiles are of one image. Its factors are worked into the tile's table of channels, and for relu, which commutes with
// them, nothing is left to do for each value. Otherwise rows have factors of their own.

#include <cfloat>

#include "ops/conv/nhwc/epilogue.cuh"
#include "ops/conv/range/convert.cuh"
#include "ops/elementwise/pair16.cuh"

namespace solder::nhwc {

/// What an image's sums, residual and results are multiplied by: exponents of powers of two.
struct ImageScale {
  int sums = 0, residual = 0, results = 0;
  float bound = 0;  ///< of the results, as they are without it
};

inline __device__ int image_of(const Params& p, int pixel) {
  return pixel < 0 ? -1 : static_cast<int>(p.by_pixels.divide(pixel));
}

/// Whether a tile may have pixels of several images.
template <class Tile>
__device__ bool has_images(const Params& p, const Work& work) {
  if (Tile::kIsWindow) return p.config.tile_images > 1;
  return work.p * p.Q + work.q + Tile::kPixels > p.P * p.Q && work.n + 1 < p.N;
}

/// Brings what scale_of() will read nearer.
inline __device__ void prefetch_ranges(const Params& p, int image) {
  if (image < 0) return;
#pragma unroll 1
  for (int part = 0; part < p.scaling.num_parts; ++part) sm90::prefetch_l1(p.scaling.x[part].ranges + image);
  if (p.scaling.residual != nullptr) sm90::prefetch_l1(p.scaling.residual + image);
}

/// From one part of x to the next: what sums are multiplied by, and the exponent that they have then. A part so much
/// smaller than what came before that float32 could not hold the product is multiplied as if it were larger: by 2^-80 of
/// the others at most, which is beyond what Math::tf32 promises.
inline __device__ float next_part(int* exponent, int next) {
  constexpr int kMostUp = 80;
  next = min(next, *exponent + kMostUp);
  const float factor = power_of_two(max(next - *exponent, -kMaxRangeExponent));
  *exponent = next;
  return factor;
}

/// What the sums of a pixel are multiplied by behind part `part` of x.
inline __device__ float factor_behind(const Params& p, int image, int part) {
  if (image < 0) return 1;
  int exponent = p.scaling.x[0].ranges[image].exponent;
  float factor = 1;
#pragma unroll 1
  for (int i = 0; i <= part; ++i) factor = next_part(&exponent, p.scaling.x[i + 1].ranges[image].exponent);
  return factor;
}

/// Of an image, -1: none. The exponent of results is such that nothing which the epilogue can make of the sums reaches
/// 2^15, but for what is rounded on the way, and float16 ends at 2^16.
inline __device__ ImageScale scale_of(const Params& p, int image) {
  ImageScale scale;
  if (image < 0) return scale;
  const PixelScaling& s = p.scaling;
  const ImageRange first = s.x[0].ranges[image];
  int exponent = s.is_guessed ? packed_exponent(first, Math::tf32) : first.exponent;
  uint32_t max_bits = first.max_bits;
#pragma unroll 1
  for (int part = 1; part < s.num_parts; ++part) {
    const ImageRange next = s.x[part].ranges[image];
    max_bits = max(max_bits, next.max_bits);
    next_part(&exponent, next.exponent);
  }
  const ImageRange of_residual = s.residual != nullptr ? s.residual[image] : ImageRange{};
  scale.sums = -exponent, scale.residual = -of_residual.exponent;
  if (s.y == nullptr) return scale;
  const float residual = __uint_as_float(of_residual.max_bits);
  float bound = fmaf(__uint_as_float(max_bits), __ldg(p.weight_bound), s.bias);
  if (p.residual_at == ResidualAt::before) bound += residual;
  bound = fmaf(bound, s.scale, s.shift) * s.gain;
  if (p.residual_at == ResidualAt::after) bound += residual;
  scale.results = range_exponent(__float_as_uint(bound), kTopExponent), scale.bound = bound;
  return scale;
}

/// How a tile's values are scaled.
enum class Scaling : uint8_t {
  none,   ///< not at all
  table,  ///< the tables have the scale of the tile's only image
  rows    ///< rows have scales of their own: the tile may have pixels of several images
};

/// Where the scale of an image's results commutes with the chain, the tables have it too.
template <ConvChain kChain>
constexpr bool kScalesFirst = kChain == ConvChain::relu;

template <Scaling kScaling, ConvChain kChain>
constexpr bool kScalesResults = kScaling == Scaling::rows ||
                                (kScaling == Scaling::table && !kScalesFirst<kChain>);

/// 2^exponent, or the normal float that is nearest: what is multiplied by less than the smallest is nothing beside what
/// else there is.
inline __device__ float nearest_power(int exponent) {
  return power_of_two(min(max(exponent, -kMaxRangeExponent), kMaxRangeExponent));
}

/// Works the scale of a tile's only image into its tables, of `count` channels each: by each thread what it has asked for.
template <ConvChain kChain>
__device__ void scale_channels(const Params& p, const ImageScale& s, int count, uint32_t channels_smem,
                               int thread_of_group) {
  const int results = kScalesFirst<kChain> ? s.results : 0;
  const float of_sums = nearest_power(s.sums + results), of_results = nearest_power(results);
#pragma unroll 1
  for (int i = thread_of_group; i < count; i += 128) {
    const uint32_t at = channel_smem(channels_smem, i);
    // Not zero, so that infinity stays what it is.
    sm80::store_shared(at, fmaxf(sm80::load_shared_one(at) * of_sums, FLT_TRUE_MIN));
    if (!kScalesFirst<kChain>) continue;
    sm80::store_shared(at + 8, sm80::load_shared_one(at + 8) * of_results);
    if (p.scale == nullptr) continue;
    const uint32_t of_shift = at + count * 8 + 8;
    sm80::store_shared(of_shift, sm80::load_shared_one(of_shift) * of_results);
  }
}

/// By what residuals are multiplied: as they are added to values that have been, or to others.
template <Scaling kScaling, ConvChain kChain>
__device__ int residual_exponent(const ImageScale& image) {
  return image.residual + (kScalesResults<kScaling, kChain> ? 0 : image.results);
}

/// 2^exponent of the two rows of which a thread has sums.
struct RowPowers {
  float of[2] = {1, 1};
};

/// Of what lanes have for rows lane % 16, or for row `row`; of all lanes together.
inline __device__ RowPowers powers_at(int exponent, int lane) {
  return {{nearest_power(__shfl_sync(0xffffffffu, exponent, lane / 4)),
           nearest_power(__shfl_sync(0xffffffffu, exponent, lane / 4 + 8))}};
}
inline __device__ ImageScale scale_at(const ImageScale& mine, int row) {
  return {__shfl_sync(0xffffffffu, mine.sums, row), __shfl_sync(0xffffffffu, mine.residual, row),
          __shfl_sync(0xffffffffu, mine.results, row)};
}

/// Notes the scale of an image's results, where `pixel` is its first one, and if nobody measures them their bound.
inline __device__ void note_scale(const Params& p, int pixel, int image, const ImageScale& scale) {
  if (p.scaling.y == nullptr || image < 0 || pixel != image * p.P * p.Q) return;
  p.scaling.y[image].exponent = scale.results;
  if (!p.scaling.is_measured) p.scaling.y[image].max_bits = __float_as_uint(fminf(scale.bound, FLT_MAX));
}

/// Of pairs of float16, both halves: the larger of a and |b|.
inline __device__ uint32_t larger_halves(uint32_t a, uint32_t b) {
  const __half2 larger =
      __hmax2(reinterpret_cast<const __half2&>(a), __habs2(reinterpret_cast<const __half2&>(b)));
  return reinterpret_cast<const uint32_t&>(larger);
}

inline __device__ uint32_t larger_vector(uint32_t a, const uint4& b) {
  return larger_halves(larger_halves(larger_halves(larger_halves(a, b.x), b.y), b.z), b.w);
}

/// The largest finite magnitude that larger_halves() can have seen: where it has seen infinity, what float16 ends at.
inline __device__ float finite_largest(uint32_t pair) {
  const float2 halves = unpack_pair(DType::float16, pair);
  return fminf(fmaxf(halves.x, halves.y), 65504.0f);
}

// The maxima of images are a line or two of memory for the whole batch, on which thousands of atomic operations would
// queue. So a warp keeps what it has found in the tiles of an image, and the warps of a group join theirs in shared memory:
// the bits of the largest, and how many warps have been there. From one time to the next the group meets at a barrier, as
// another image has other tables.
inline __device__ void add_maximum(const Params& p, int image, uint32_t bits) {
  if (image >= 0 && bits != 0) atomicMax(&p.scaling.y[image].max_bits, bits);
}

/// By one lane of each warp of a group: the bits of the largest of an image.
inline __device__ void join_warp(const Params& p, uint32_t joined, int image, uint32_t bits) {
  sm90::shared_max(joined, bits);
  if (sm90::shared_increment(joined + 4, 3) == 3) add_maximum(p, image, sm90::shared_exchange(joined, 0));
}

/// By each warp of a group: the largest that each lane has found in `image`, -1: nothing. All lanes together, which mostly
/// have the image of the group's first pixel.
inline __device__ void join_largest(const Params& p, uint32_t joined, int lane, int first_image, int image,
                                    float largest) {
  uint32_t bits = image < 0 ? 0 : __float_as_uint(largest);
  if (!__all_sync(0xffffffffu, image == first_image || image < 0)) add_maximum(p, image, bits), bits = 0;
  bits = largest_of_warp(bits);
  if (lane == 0) join_warp(p, joined, first_image, bits);
}

/// What a warp keeps from tile to tile of one image, in shared memory, as products leave few registers: which that is, -1:
/// none, its scale, and the bits of the largest result, as it is stored.
struct Kept {
  uint32_t at;

  __device__ void start(int lane, int image, const ImageScale& scale) const {
    const auto byte = [](int exponent) { return static_cast<uint32_t>(exponent) & 0xff; };
    const uint32_t bytes = byte(scale.sums) | byte(scale.residual) << 8 | byte(scale.results) << 16;
    __syncwarp();
    if (lane == 0) sm80::store_shared_bits(at, make_uint4(static_cast<uint32_t>(image), bytes, 0, 0));
    __syncwarp();
  }
  __device__ int image() const { return sm80::load_shared_words(at).x; }
  __device__ ImageScale scale() const {
    const int bytes = sm80::load_shared_words(at).y;
    return {static_cast<int8_t>(bytes), static_cast<int8_t>(bytes >> 8), static_cast<int8_t>(bytes >> 16)};
  }
  /// By all lanes: pairs of magnitudes.
  __device__ void add(int lane, uint32_t pair) const {
    const uint32_t largest = largest_of_warp(max(pair & 0xffff, pair >> 16));
    if (lane == 0) sm90::shared_max(at + 8, largest);
  }
  /// Notes it with the other warps of the group.
  __device__ void note(const Params& p, uint32_t joined, int lane) const {
    if (!p.scaling.is_measured || lane != 0) return;
    const int kept_image = image();
    if (kept_image < 0) return;
    const float largest = finite_largest(sm80::load_shared_bits(at).z) * power_of_two(-scale().results);
    join_warp(p, joined, kept_image, __float_as_uint(largest));
  }
};

}  // namespace solder::nhwc

#pragma once
// The kinds of nodes, what each is told besides its inputs, and the options under which users say it.

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "ops/reduction.h"
#include "runtime/shape.h"
#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

/// The operations a node can be. What solder knows of each stands in one file and one row of a table.
enum class NodeKind : uint8_t {
  input,
  parameter,
  conv2d,
  matmul,
  elementwise,
  slice,
  reshape,
  permute,
  expand,
  concat,
  pool2d,
  reduce,
  softmax,
  resize,
  pad,
  gather,
  batch_norm
};

const char* to_string(NodeKind kind);

/// How the bytes of a tensor lie, whose extents are [N,C,H,W] in each: in that order, or channels innermost.
enum class Layout : uint8_t {
  nchw,
  channels_last,        ///< [N,H,W,C], dense
  padded_channels_last  ///< between nodes, where compile() chooses: in 16-bit types with C rounded up to 8
};

/// "nchw", "channels_last", "padded_channels_last".
const char* to_string(Layout layout);

/// Two extents; one number means both.
struct Pair {
  int64_t h = 0, w = 0;
  constexpr Pair(int64_t both) : h(both), w(both) {}
  constexpr Pair(int64_t h_, int64_t w_) : h(h_), w(w_) {}
  bool operator==(const Pair&) const = default;
};

/// Rows and columns around an image; negative values crop where an op allows it.
struct Padding {
  int64_t top = 0, left = 0, bottom = 0, right = 0;
  constexpr Padding(int64_t all) : top(all), left(all), bottom(all), right(all) {}
  constexpr Padding(int64_t h, int64_t w) : top(h), left(w), bottom(h), right(w) {}
  constexpr Padding(int64_t top_, int64_t left_, int64_t bottom_, int64_t right_)
      : top(top_), left(left_), bottom(bottom_), right(right_) {}
  bool operator==(const Padding&) const = default;
};

struct Conv2dOptions {
  Pair stride = 1;
  Padding padding = 0;  ///< of zeros
  Pair dilation = 1;
  int64_t groups = 1;
  std::string name{};  ///< of the node, for dumps, errors and profiles; made up when empty
};

struct ConvTranspose2dOptions {
  Pair stride = 1;
  Padding padding = 0;  ///< taken off the result
  Pair output_padding = 0;
  Pair dilation = 1;
  int64_t groups = 1;
};

struct Pool2dOptions {
  Pair kernel = 1;
  Pair stride = 0;      ///< 0: the kernel's
  Padding padding = 0;  ///< never counted as a maximum
  Pair dilation = 1;
  bool ceil_mode = false;         ///< a last window may reach beyond the padding, if it starts before it
  bool count_include_pad = true;  ///< of averages: padding counts as zeros; what lies beyond it never counts
  bool operator==(const Pool2dOptions&) const = default;
};

enum class ResizeMode : uint8_t { nearest, bilinear };

/// Where output index i reads along an axis of `in` extents that becomes `out`, with scale = out / in (or as given).
enum class ResizeCoordinates : uint8_t {
  half_pixel,            ///< (i + 0.5) / scale - 0.5
  half_pixel_symmetric,  ///< the same, about the centre that the exact scale would have
  pytorch_half_pixel,    ///< the same, but 0 where out is 1
  align_corners,         ///< i * (in - 1) / (out - 1)
  asymmetric             ///< i / scale
};

/// What nearest makes of a coordinate that is no whole number.
enum class ResizeRounding : uint8_t { floor, ceil, round_prefer_floor, round_prefer_ceil };

/// Two factors; one number means both.
struct Scale {
  double h = 0, w = 0;
  constexpr Scale(double both) : h(both), w(both) {}
  constexpr Scale(double h_, double w_) : h(h_), w(w_) {}
  bool operator==(const Scale&) const = default;
};

struct ResizeOptions {
  Pair size = 0;    ///< of the result, rows and columns; 0: floor(extent * scale)
  Scale scale = 0;  ///< 0: as size has it
  ResizeMode mode = ResizeMode::nearest;
  /// Without a value as PyTorch: asymmetric for nearest, half_pixel for bilinear.
  std::optional<ResizeCoordinates> coordinates{};
  ResizeRounding rounding = ResizeRounding::floor;
};

enum class PadMode : uint8_t { constant, reflect, edge };

/// What a node is told besides its inputs; kinds without attributes have none.
struct Conv2dAttributes {  ///< inputs x [N,C,H,W], w [K,C/groups,R,S]
  Pair stride = 1;
  Padding padding = 0;
  Pair dilation = 1;
  int64_t groups = 1;
  bool is_narrow = false;  ///< x and w hold 16-bit values, also in float32: Math::tf32 rounds none of them
  bool operator==(const Conv2dAttributes&) const = default;
};
struct MatmulAttributes {    ///< inputs a [..., m, k], b [k, n] or [..., k, n]
  bool transpose_b = false;  ///< b is [n, k]
  bool is_narrow = false;    ///< as above
  bool operator==(const MatmulAttributes&) const = default;
};
struct SliceAttributes {  ///< input x; indices start, start + step, ... of `axis`, as many as the output has
  int axis = 0;
  int64_t start = 0, step = 1;
  bool operator==(const SliceAttributes&) const = default;
};
struct PermuteAttributes {  ///< input x; axis i of the output is axis axes[i] of x
  std::vector<int> axes;
  bool operator==(const PermuteAttributes&) const = default;
};
struct ConcatAttributes {  ///< inputs of any number, joined along `axis`
  int axis = 0;
  bool operator==(const ConcatAttributes&) const = default;
};
struct Pool2dAttributes {                ///< input x [N,C,H,W]; the stride is not 0
  Reduction reduction = Reduction::max;  ///< or mean
  Pool2dOptions options;
  bool operator==(const Pool2dAttributes&) const = default;
};
struct ReduceAttributes {  ///< input x; axes ascend
  Reduction reduction = Reduction::mean;
  std::vector<int> axes;
  bool keep_dims = false;
  bool keeps_float32 = false;  ///< the result is float32, whatever x is
  bool operator==(const ReduceAttributes&) const = default;
};
struct SoftmaxAttributes {  ///< input x
  int axis = 0;
  bool log = false;
  bool operator==(const SoftmaxAttributes&) const = default;
};
struct ResizeAttributes {  ///< input x [N,C,H,W]; the output's extents are declared
  Scale scale = 1;         ///< by which coordinates are worked out
  ResizeMode mode = ResizeMode::nearest;
  ResizeCoordinates coordinates = ResizeCoordinates::asymmetric;
  ResizeRounding rounding = ResizeRounding::floor;
  bool operator==(const ResizeAttributes&) const = default;
};
struct PadAttributes {                 ///< input x; an entry an axis
  std::vector<int64_t> before, after;  ///< negative: cropped
  std::vector<int64_t> interior;       ///< fillers between neighbours; empty: none; of constant mode only
  PadMode mode = PadMode::constant;
  float value = 0;
  bool operator==(const PadAttributes& other) const;  ///< of values by their bits
};
struct GatherAttributes {  ///< input x; index i of `axis` of the output is index indices[i] of x
  int axis = 0;
  std::vector<int64_t> indices;
  bool operator==(const GatherAttributes&) const = default;
};
struct BatchNormAttributes {  ///< inputs x [N,C,...], weight, bias, mean, variance [C]
  float eps = 1e-5f;
  bool operator==(const BatchNormAttributes&) const = default;
};
using Attributes =
    std::variant<std::monostate, Conv2dAttributes, MatmulAttributes, SliceAttributes, PermuteAttributes,
                 ConcatAttributes, Pool2dAttributes, ReduceAttributes, SoftmaxAttributes, ResizeAttributes,
                 PadAttributes, GatherAttributes, BatchNormAttributes>;

}  // namespace solder

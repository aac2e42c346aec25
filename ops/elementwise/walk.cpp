#include "ops/elementwise/walk.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <limits>

namespace solder {

using namespace elementwise;

namespace {

bool is_dense(const ElementwiseArgs& args, const Operand& tensor) {
  int64_t stride = 1;
  for (int d = args.rank; d-- > 0; stride *= args.dims[d])
    if (tensor.strides[d] != stride) return false;
  return true;
}

// Whether rows of the innermost axis lie on multiples of `length` neighbours, which one instruction moves.
bool lies_in_vectors(const ElementwiseArgs& args, const Operand& tensor, int length) {
  bool does = tensor.strides[args.rank - 1] == 1 && length * size_of(tensor.dtype) <= 16;
  for (int d = 0; d + 1 < args.rank; ++d) does = does && tensor.strides[d] % length == 0;
  return does;
}

// Vectors beside one another that fill a sector; 0 where no operand's neighbours lie along the next axis, or rows are
// much shorter than a block's patch.
int patch_vectors(const ElementwiseArgs& args, int length) {
  constexpr int kSectorBytes = 32;
  const int last = args.rank - 1;
  const int vectors = kSectorBytes / (length * static_cast<int>(size_of(args.outputs[0].dtype)));
  const bool turned = std::any_of(args.operands, args.operands + args.num_operands, [&](const Operand& o) {
    return last > 0 && std::abs(o.strides[last]) > 1 && std::abs(o.strides[last - 1]) == 1;
  });
  const bool fits = args.num_elems <= std::numeric_limits<int32_t>::max();
  return turned && fits && 2 * args.dims[last] > vectors * kElems ? vectors : 0;
}

Walk walk_by(const ElementwiseArgs& args, int length) {
  return {.by_rows = true, .length = length, .patch_vectors = patch_vectors(args, length)};
}

}  // namespace

Walk walk_of(const ElementwiseArgs& args) {
  bool by_rows = false;
  int64_t widest = 2;  // bytes of the elements that are read and written by vectors
  for (int i = 0; i < args.num_outputs; ++i) {
    by_rows = by_rows || !is_dense(args, args.outputs[i]);
    widest = std::max(widest, size_of(args.outputs[i].dtype));
  }
  for (int i = 0; i < args.num_operands; ++i) {
    const Access access = access_of(args, {}, args.operands[i]);
    by_rows = by_rows || access == Access::strided;
    if (access == Access::dense) widest = std::max(widest, size_of(args.operands[i].dtype));
  }
  if (!by_rows) return {.length = static_cast<int>(16 / widest)};
  for (const int length : {8, 4}) {
    bool fits = true;
    for (int i = 0; i < args.num_outputs; ++i) fits = fits && lies_in_vectors(args, args.outputs[i], length);
    for (int i = 0; i < args.num_operands; ++i)
      fits = fits &&
             (lies_in_vectors(args, args.operands[i], length) || !lies_in_vectors(args, args.operands[i], 4));
    if (fits) return walk_by(args, length);
  }
  return walk_by(args, 1);
}

Walk walk_of_elements(const ElementwiseArgs& args) {
  return walk_of(args).by_rows ? walk_by(args, 1) : Walk{};
}

Access access_of(const ElementwiseArgs& args, const Walk& walk, const Operand& operand) {
  const int last = args.rank - 1;
  bool scalar = operand.strides[last] == 0, channel = scalar && last > 0 && args.dims[last] >= kElems;
  for (int d = 0; d < last; ++d) {
    scalar = scalar && operand.strides[d] == 0;
    channel = channel && (operand.strides[d] == 0 || d + 1 == last);
  }
  if (scalar) return Access::scalar;
  if (!walk.by_rows)
    return is_dense(args, operand) ? Access::dense : channel ? Access::channel : Access::strided;
  return lies_in_vectors(args, operand, walk.length) ? Access::vectors
         : operand.strides[last] == 0                ? Access::channel
                                                     : Access::strided;
}

KernelParams params_of(const ElementwiseArgs& args, const Walk& walk) {
  KernelParams params{.args = args, .by_rows = walk.by_rows};
  for (int i = 0; i < args.num_operands; ++i) {
    params.access[i] = access_of(args, walk, args.operands[i]);
    params.has_channels = params.has_channels || params.access[i] == Access::channel;
  }
  if (walk.by_rows && args.num_elems > 0) {
    int64_t& pitch = params.args.dims[args.rank - 1];
    params.row_elems = pitch;
    params.num_rows = args.num_elems / pitch;
    pitch = round_up(pitch, walk.length);
    params.args.num_elems = params.num_rows * pitch;
    if (walk.patch_vectors > 0) {
      params.patch_shift = static_cast<uint32_t>(std::countr_zero(static_cast<unsigned>(walk.patch_vectors)));
      params.num_patches = static_cast<uint32_t>(ceil_div(pitch, walk.patch_vectors * kElems));
      params.by_patches = FastDivisor(params.num_patches);
    }
  }
  for (int d = 0; d < args.rank && args.num_elems > 0 && fits_32_bits(params); ++d)
    params.by_dim[d] = FastDivisor(static_cast<uint32_t>(params.args.dims[d]));
  return params;
}

int64_t num_blocks(const KernelParams& params) {
  if (params.patch_shift == 0) return ceil_div(params.args.num_elems, kThreads * kElems);
  return ceil_div(params.num_rows, kThreads >> params.patch_shift) * params.num_patches;
}

bool fits_32_bits(const KernelParams& params) {
  return params.args.num_elems <= std::numeric_limits<int32_t>::max() - kThreads * kElems;
}

}  // namespace solder

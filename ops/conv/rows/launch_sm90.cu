// The family "rows": its plan and its launches.

#include "ops/conv/fused.h"
#include "ops/conv/range/strict.cuh"
#include "ops/conv/rows/params.cuh"
#include "runtime/launch.cuh"

namespace solder {
namespace {

using namespace rows;

bool is_aligned(const void* pointer, uintptr_t num_bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % num_bytes == 0;
}

int64_t num_slots_bytes(const ConvShape& shape, const RowsConfig& config) {
  return (config.clusters_per_k_block + shape.N * config.num_strips) *
         static_cast<int64_t>(sizeof(RangeSlot));
}

Params make_params(const ConvShape& shape, const ConvStrides& strides, const RowsConfig& config,
                   const ConvEpilogue& epilogue, const ConvTensors& t) {
  Params p{kernel_shape(shape)};
  p.x = t.x_floats();
  p.weights = static_cast<const uint4*>(t.packed);
  const int64_t exponent_bytes = int64_t{config.num_k_blocks} * config.cluster_channels() * 4;
  p.weight_exponents = reinterpret_cast<const int32_t*>(static_cast<const unsigned char*>(t.packed) +
                                                        rows_weight_bytes(shape, config) - exponent_bytes);
  p.y = t.y_floats();
  p.slots = static_cast<RangeSlot*>(t.scratch);
  p.ranges =
      reinterpret_cast<ImageRange*>(static_cast<unsigned char*>(t.scratch) + num_slots_bytes(shape, config));
  p.alarms = reinterpret_cast<uint8_t*>(p.ranges + shape.N);
  p.strict = strict_params(shape, strides, config.math, p.x, t.w, p.ranges, p.y);
  p.x_plane = shape.H * shape.W;
  p.x_image = strides.x;
  p.x_elems = shape.C * p.x_plane;
  p.y_plane = shape.P() * shape.Q();
  p.y_image = strides.y;
  p.residual_shift = epilogue.residual_image - strides.y;
  p.num_strips = config.num_strips, p.strip_cols = config.strip_cols;
  const int num_units = static_cast<int>(shape.N * config.num_strips * shape.P());
  p.cluster_units = num_units / config.clusters_per_k_block;
  p.extra_units = num_units % config.clusters_per_k_block;
  p.clusters_per_k_block = config.clusters_per_k_block;
  p.share_channels = config.share_channels, p.num_slots = config.num_slots;
  // A lone strip keeps its padding in columns that are never written; several differ and store zeros.
  p.slot_shift = config.num_strips == 1 ? p.pad_left : 0;
  p.paired_loads =
      is_aligned(t.x, 8) && shape.W % 2 == 0 && strides.x % 2 == 0 && (p.pad_left - p.slot_shift) % 2 == 0;
  p.bulk_prefetch = is_aligned(t.x, 16) && shape.W % 4 == 0 && strides.x % 4 == 0;
  p.epilogue = epilogue;
  return p;
}

template <Math kMath>
Kernel select(const Params& p) {
  using Known = Filter<true, kMath>;
  const bool is_known = p.R == 3 && p.S == 3 && p.share_channels == Known::kMaxShare;
  return is_known ? select_kernel<Known>(p.epilogue.chain)
                  : select_kernel<Filter<false, kMath>>(p.epilogue.chain);
}

struct RowsPlan final : FusedPlan<RowsConfig> {
  // The kernel, then its repair, which ends at once unless an image needs a new scale or float32.
  void enqueue(const Context* context, const ConvTensors& t) const override {
    Params p = make_params(shape, strides, config, bound_epilogue(epilogue, t.operands), t);
    const Kernel kernel = config.math == Math::tf32 ? select<Math::tf32>(p) : select<Math::fp32>(p);
    const LaunchConfig grid{.grid = dim3(config.num_blocks()),
                            .block = dim3(kNumThreads),
                            .smem_bytes = config.smem_bytes,
                            .overlaps_previous = true};
    launch(*context, "conv_rows_kernel", kernel, grid, p);
    p.is_repair = true;
    launch(*context, "conv_rows_kernel (repair)", kernel, grid, p);
  }
};

}  // namespace

int64_t conv_scratch_bytes(const ConvShape& shape, const RowsConfig& config) {
  return num_slots_bytes(shape, config) + conv_range_bytes(shape.N) +
         config.clusters_per_k_block * kClusterSize * 4;
}

std::unique_ptr<ConvPlan> make_rows_conv(const ConvProblem& problem, const DeviceInfo* device,
                                         std::string* why_not) {
  if (device->cc_major != 9) return *why_not = "needs a Hopper GPU (compute capability 9.0)", nullptr;
  const auto config = choose_rows_config(problem.shape, problem.math, *device, why_not);
  auto plan = std::make_unique<RowsPlan>();
  if (!config || !plan->init(problem, *config, why_not)) return nullptr;
  // As with an odd number of columns: outputs and residuals are read and written in pairs.
  bool has_pairs = problem.y.offset_elems % 2 == 0;
  for (const ConvView& operand : problem.operands) has_pairs = has_pairs && operand.offset_elems % 2 == 0;
  if (!has_pairs || plan->strides.y % 2 != 0 || plan->epilogue.residual_image % 2 != 0)
    return *why_not = "y or a residual lies at odd elements, in itself or from image to image", nullptr;
  return plan;
}

}  // namespace solder

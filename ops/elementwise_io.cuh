#pragma once
// How the elementwise kernel reads operands and writes outputs: kElems values a thread, as vectors of kVec
// neighbours that lie kThreads vectors apart.

#include "ops/elementwise_apply.h"

namespace solder::elementwise {

constexpr int kThreads = 256;
constexpr int kElems = 8;  // values a thread

enum class Access : uint8_t { dense, scalar, channel, strided };

// n / divisor for n < 2^31 by a multiplication (Granlund and Montgomery 1994).
struct FastDivisor {
  uint32_t multiplier = 0;
  uint32_t shift = 0;

  FastDivisor() = default;
  explicit FastDivisor(uint32_t divisor) {
    uint32_t log2 = 0;
    while ((uint64_t{1} << log2) < divisor) ++log2;
    shift = log2 == 0 ? 0 : log2 - 1;
    multiplier =
        divisor <= 1 ? 0 : static_cast<uint32_t>(((uint64_t{1} << (32 + shift)) + divisor - 1) / divisor);
  }
  __device__ uint32_t divide(uint32_t n) const {
    return multiplier == 0 ? n : __umulhi(n, multiplier) >> shift;
  }
};

struct KernelParams {
  Program program;
  ElementwiseArgs args;
  Access access[kMaxOperands];
  bool has_channels;  // some operand is read by channel
  uint32_t row_length, num_channels;
  FastDivisor by_row_length, by_num_channels;
};

// Where a vector of neighbours lies among the rows of the innermost axis: `channel` is the place of its first
// row on the axis next to it, and the elements from `split` on belong to the next row.
struct RowPlace {
  uint32_t channel, next_channel;
  int split;
};

__device__ float load_one(const void* data, DType dtype, int64_t idx) {
  switch (dtype) {
    case DType::float32: return static_cast<const float*>(data)[idx];
    case DType::float16: return __half2float(static_cast<const __half*>(data)[idx]);
    default: return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[idx]);
  }
}

__device__ void store_one(void* data, DType dtype, int64_t idx, float value) {
  switch (dtype) {
    case DType::float32: static_cast<float*>(data)[idx] = value; return;
    case DType::float16: static_cast<__half*>(data)[idx] = __float2half_rn(value); return;
    default: static_cast<__nv_bfloat16*>(data)[idx] = __float2bfloat16_rn(value); return;
  }
}

// kVec neighbours from `idx` on, as one load.
template <int kVec>
__device__ void load_vector(const Operand& operand, int64_t idx, float* values) {
  if constexpr (kVec == 1) {
    values[0] = load_one(operand.data, operand.dtype, idx);
  } else if (operand.dtype == DType::float32) {
    const float4 v = *reinterpret_cast<const float4*>(static_cast<const float*>(operand.data) + idx);
    values[0] = v.x, values[1] = v.y, values[2] = v.z, values[3] = v.w;
  } else if (operand.dtype == DType::float16) {
    const uint2 bits = *reinterpret_cast<const uint2*>(static_cast<const __half*>(operand.data) + idx);
    const float2 low = __half22float2(*reinterpret_cast<const __half2*>(&bits.x));
    const float2 high = __half22float2(*reinterpret_cast<const __half2*>(&bits.y));
    values[0] = low.x, values[1] = low.y, values[2] = high.x, values[3] = high.y;
  } else {
    const uint2 bits = *reinterpret_cast<const uint2*>(static_cast<const __nv_bfloat16*>(operand.data) + idx);
    const float2 low = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&bits.x));
    const float2 high = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&bits.y));
    values[0] = low.x, values[1] = low.y, values[2] = high.x, values[3] = high.y;
  }
}

template <int kVec>
__device__ void store_vector(const Operand& output, int64_t idx, const float* values) {
  if constexpr (kVec == 1) {
    store_one(output.data, output.dtype, idx, values[0]);
  } else if (output.dtype == DType::float32) {
    *reinterpret_cast<float4*>(static_cast<float*>(output.data) + idx) =
        make_float4(values[0], values[1], values[2], values[3]);
  } else if (output.dtype == DType::float16) {
    const __half2 low = __floats2half2_rn(values[0], values[1]),
                  high = __floats2half2_rn(values[2], values[3]);
    *reinterpret_cast<uint2*>(static_cast<__half*>(output.data) + idx) =
        make_uint2(*reinterpret_cast<const unsigned*>(&low), *reinterpret_cast<const unsigned*>(&high));
  } else {
    const __nv_bfloat162 low = __floats2bfloat162_rn(values[0], values[1]);
    const __nv_bfloat162 high = __floats2bfloat162_rn(values[2], values[3]);
    *reinterpret_cast<uint2*>(static_cast<__nv_bfloat16*>(output.data) + idx) =
        make_uint2(*reinterpret_cast<const unsigned*>(&low), *reinterpret_cast<const unsigned*>(&high));
  }
}

// Where an operand shows element `idx` of the index space, in elements from its base.
template <class Index>
__device__ int64_t strided_offset(const ElementwiseArgs& args, const Operand& operand, Index idx) {
  int64_t offset = 0;
  for (int d = args.rank - 1; d > 0; --d) {
    const Index extent = static_cast<Index>(args.dims[d]);
    const Index outer = idx / extent;
    offset += static_cast<int64_t>(idx - outer * extent) * operand.strides[d];
    idx = outer;
  }
  return offset + static_cast<int64_t>(idx) * operand.strides[0];
}

__device__ RowPlace find_row(const KernelParams& p, uint32_t idx) {
  const uint32_t row = p.by_row_length.divide(idx);
  const uint32_t channel = row - p.by_num_channels.divide(row) * p.num_channels;
  return {channel, channel + 1 == p.num_channels ? 0 : channel + 1,
          static_cast<int>(p.row_length - (idx - row * p.row_length))};
}

// The thread's kElems values of one operand; elements past the end are left as they are.
template <int kVec, class Index>
__device__ void load_operand(const KernelParams& p, int index, Index first,
                             const RowPlace (&places)[kElems / kVec], float (&values)[kElems]) {
  const Operand& operand = p.args.operands[index];
  const Index num_elems = static_cast<Index>(p.args.num_elems);
  const Access access = p.access[index];
  if (access == Access::scalar) {
    const float value = load_one(operand.data, operand.dtype, 0);
#pragma unroll
    for (int i = 0; i < kElems; ++i) values[i] = value;
    return;
  }
  if (sizeof(Index) == 4 && access == Access::channel) {
    const int64_t stride = operand.strides[p.args.rank - 2];
#pragma unroll
    for (int v = 0; v < kElems / kVec; ++v) {
      const RowPlace place = places[v];
      const float value = load_one(operand.data, operand.dtype, place.channel * stride);
      const float next =
          place.split < kVec ? load_one(operand.data, operand.dtype, place.next_channel * stride) : value;
#pragma unroll
      for (int j = 0; j < kVec; ++j) values[v * kVec + j] = j < place.split ? value : next;
    }
    return;
  }
#pragma unroll
  for (int v = 0; v < kElems / kVec; ++v) {
    const Index idx = first + static_cast<Index>(v * kThreads * kVec);
    float* out = values + v * kVec;
    if (access == Access::dense && idx + (kVec - 1) < num_elems) {
      load_vector<kVec>(operand, idx, out);
      continue;
    }
#pragma unroll
    for (int j = 0; j < kVec; ++j) {
      if (idx + j < num_elems)
        out[j] =
            load_one(operand.data, operand.dtype,
                     access == Access::dense ? static_cast<int64_t>(idx + j)
                                             : strided_offset(p.args, operand, static_cast<Index>(idx + j)));
    }
  }
}

// Rounds and stores the thread's values as output `index`.
template <int kVec, class Index>
__device__ void store_output(const KernelParams& p, int index, Index first, const float (&values)[kElems]) {
  const Operand& output = p.args.outputs[index];
  const Index num_elems = static_cast<Index>(p.args.num_elems);
#pragma unroll
  for (int v = 0; v < kElems / kVec; ++v) {
    const Index idx = first + static_cast<Index>(v * kThreads * kVec);
    if (idx + (kVec - 1) < num_elems) {
      store_vector<kVec>(output, idx, values + v * kVec);
    } else {
#pragma unroll
      for (int j = 0; j < kVec; ++j)
        if (idx + j < num_elems) store_one(output.data, output.dtype, idx + j, values[v * kVec + j]);
    }
  }
}

}  // namespace solder::elementwise

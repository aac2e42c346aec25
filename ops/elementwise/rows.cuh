#pragma once
// The same for outputs and operands of any strides, walked by rows: a vector ends with its row of the innermost axis,
// so that one place is worked out a vector and tensor. Elements that a row lacks to whole vectors are counted, and
// neither read nor written: they may be another tensor's.

#include "ops/elementwise/io.cuh"

namespace solder::elementwise {

// A vector's row and its first element there; of its kVec elements, `count` are.
template <class Index>
struct VectorPlace {
  Index row, column;
  int count;
};

template <int kVec, class Index>
__device__ void find_places(const KernelParams& p, int rank, Index first,
                            VectorPlace<Index> (&places)[kElems / kVec]) {
  const Index pitch = static_cast<Index>(p.args.dims[rank - 1]), row_elems = static_cast<Index>(p.row_elems);
#pragma unroll
  for (int v = 0; v < kElems / kVec; ++v) {
    VectorPlace<Index>& place = places[v];
    if (p.patch_shift == 0) {
      const Index idx = first + static_cast<Index>(v * kThreads * kVec);
      place.row = divide_by_dim(p, rank - 1, idx);
      place.column = idx - place.row * pitch;
    } else {
      const uint32_t shift = p.patch_shift, band = p.by_patches.divide(blockIdx.x);
      const uint32_t patch = blockIdx.x - band * p.num_patches, vector = patch * (kElems / kVec) + v;
      place.row = static_cast<Index>(band) * (kThreads >> shift) + (threadIdx.x >> shift);
      place.column =
          static_cast<Index>((vector << shift) + threadIdx.x - (threadIdx.x >> shift << shift)) * kVec;
    }
    const Index rest = place.column < row_elems ? row_elems - place.column : 0;
    place.count =
        place.row < static_cast<Index>(p.num_rows) ? (rest < kVec ? static_cast<int>(rest) : kVec) : 0;
  }
}

// Axes of a place that are worked out as straight code: all where the rank is a constant. The interpreter has this loop
// for every element, and a few axes at once would make most of its code, and of the time to compile it.
#if defined(__CUDACC_RTC__)
inline constexpr int kAxesAtOnce = kMaxDims;
#else
inline constexpr int kAxesAtOnce = 1;
#endif

// Where a tensor of `strides` has the vector's first element, in elements from its base.
template <class Index>
__device__ int64_t offset_of(const KernelParams& p, const int64_t (&strides)[kMaxDims], int rank,
                             const VectorPlace<Index>& place) {
  int64_t offset = static_cast<int64_t>(place.column) * strides[rank - 1];
  Index row = place.row;
#pragma unroll kAxesAtOnce
  for (int d = rank - 2; d > 0; --d) {
    const Index outer = divide_by_dim(p, d, row);
    offset += static_cast<int64_t>(row - outer * static_cast<Index>(p.args.dims[d])) * strides[d];
    row = outer;
  }
  return rank > 1 ? offset + static_cast<int64_t>(row) * strides[0] : offset;
}

// A thread's values of an operand; what is not there reads as 0.
template <int kVec, int kSize, class Index>
__device__ void load_rows(const KernelParams& p, int i, Access access, int rank,
                          const VectorPlace<Index> (&places)[kElems / kVec], Words<kSize>& words) {
  const Operand& operand = p.args.operands[i];
#pragma unroll
  for (int v = 0; v < kElems / kVec; ++v) {
    const int count = places[v].count;
    const int64_t offset = access == Access::scalar ? 0 : offset_of(p, operand.strides, rank, places[v]);
    if (access == Access::scalar || access == Access::channel) {
      const uint32_t bits = count > 0 ? load_bits<kSize>(operand.data, offset) : 0;
#pragma unroll
      for (int j = 0; j < kVec; ++j) put_bits<kSize>(bits, v * kVec + j, words);
      continue;
    }
    if constexpr (kVec > 1) {
      if (access == Access::vectors && count == kVec) {
        load_bytes<kVec * kSize>(static_cast<const char*>(operand.data) + offset * kSize,
                                 words + v * kVec * kSize / 4);
        continue;
      }
    }
    const int64_t step = operand.strides[rank - 1];
#pragma unroll
    for (int j = 0; j < kVec; ++j)
      put_bits<kSize>(j < count ? load_bits<kSize>(operand.data, offset + j * step) : 0, v * kVec + j, words);
  }
}

// Rounds and stores a thread's values of output `i`, which lies by vectors where kVec is not 1.
template <int kVec, int kSize, class Index>
__device__ void store_rows(const KernelParams& p, int i, DType dtype, int rank,
                           const VectorPlace<Index> (&places)[kElems / kVec], const float (&values)[kElems]) {
  const Operand& output = p.args.outputs[i];
  Words<kSize> words;
  pack(dtype, values, words);
#pragma unroll
  for (int v = 0; v < kElems / kVec; ++v) {
    const int64_t offset = offset_of(p, output.strides, rank, places[v]);
    if constexpr (kVec > 1) {
      if (places[v].count == kVec) {
        store_bytes<kVec * kSize>(static_cast<char*>(output.data) + offset * kSize,
                                  words + v * kVec * kSize / 4);
        continue;
      }
    }
#pragma unroll
    for (int j = 0; j < kVec; ++j)
      if (j < places[v].count)
        store_bits<kSize>(output.data, offset + j * output.strides[rank - 1], v * kVec + j, words);
  }
}

}  // namespace solder::elementwise

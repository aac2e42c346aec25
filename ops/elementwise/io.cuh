#pragma once
// How elementwise kernels read operands and write outputs: kElems values a thread, as vectors of kVec
// neighbours that lie kThreads vectors apart. The interpreter brings accesses, dtypes and rank as it finds
// them; a generated kernel, which embeds this text, gives constants, and every branch on them folds away.

#include "ops/elementwise/apply.h"
#include "ops/elementwise/params.h"

namespace solder::elementwise {

__device__ inline void fill(float value, float (&to)[kElems]) {
#pragma unroll
  for (int i = 0; i < kElems; ++i) to[i] = value;
}
__device__ inline void copy(const float (&from)[kElems], float (&to)[kElems]) {
#pragma unroll
  for (int i = 0; i < kElems; ++i) to[i] = from[i];
}

// Where a vector of neighbours lies among the rows of the innermost axis: `channel` is the place of its first
// row on the axis next to it, and the elements from `split` on belong to the next row.
template <class Index>
struct RowPlace {
  Index channel, next_channel;
  Index split;
};

// idx / p.args.dims[axis].
template <class Index>
__device__ Index divide_by_dim(const KernelParams& p, int axis, Index idx) {
  if constexpr (sizeof(Index) == 8) {
    return idx / static_cast<Index>(p.args.dims[axis]);
  } else {
    return p.by_dim[axis].divide(idx);
  }
}

template <int kVec, class Index>
__device__ Index first_elem() {
  return static_cast<Index>(blockIdx.x) * (kThreads * kElems) + threadIdx.x * kVec;
}

template <int kVec, class Index>
__device__ void find_rows(const KernelParams& p, int rank, Index first,
                          RowPlace<Index> (&places)[kElems / kVec]) {
  const Index row_length = static_cast<Index>(p.args.dims[rank - 1]),
              num_channels = static_cast<Index>(p.args.dims[rank - 2]);
#pragma unroll
  for (int v = 0; v < kElems / kVec; ++v) {
    const Index idx = first + static_cast<Index>(v * kThreads * kVec);
    const Index row = divide_by_dim(p, rank - 1, idx);
    const Index channel = row - divide_by_dim(p, rank - 2, row) * num_channels;
    places[v] = {channel, channel + 1 == num_channels ? 0 : channel + 1,
                 row_length - (idx - row * row_length)};
  }
}

// Where a tensor of `strides` has element `idx` of the index space, in elements from its base.
template <class Index>
__device__ int64_t strided_offset(const KernelParams& p, const int64_t (&strides)[kMaxDims], int rank,
                                  Index idx) {
  int64_t offset = 0;
#pragma unroll
  for (int d = rank - 1; d > 0; --d) {
    const Index outer = divide_by_dim(p, d, idx);
    offset += static_cast<int64_t>(idx - outer * static_cast<Index>(p.args.dims[d])) * strides[d];
    idx = outer;
  }
  return offset + static_cast<int64_t>(idx) * strides[0];
}

// Whether all of a thread's vectors, of which `first` starts the first, lie inside the index space.
template <int kVec, class Index>
__device__ bool is_full(Index first, Index num_elems) {
  return first + static_cast<Index>((kElems / kVec - 1) * kThreads * kVec + kVec - 1) < num_elems;
}

// Values of one dtype as they lie in memory, in words of 32 bits.
template <int kSize>
using Words = uint32_t[kElems * kSize / 4];

// A thread's values of a dense array of kSize-byte elements, by 16-byte (or, kVec * kSize being 8, 8-byte)
// loads; what is past the end reads as 0. Apart from unpack(), so that the loads of all operands are in
// flight before one is waited for.
template <int kVec, int kSize, class Index>
__device__ void load_words(const void* data, Index first, Index num_elems, Words<kSize>& words) {
  if (kVec > 1 && is_full<kVec>(first, num_elems)) {
#pragma unroll
    for (int v = 0; v < kElems / kVec; ++v) {
      const Index idx = first + static_cast<Index>(v * kThreads * kVec);
      const char* from = static_cast<const char*>(data) + static_cast<uint64_t>(idx) * kSize;
      if constexpr (kVec * kSize == 16) {
        const uint4 loaded = *reinterpret_cast<const uint4*>(from);
        words[v * 4] = loaded.x, words[v * 4 + 1] = loaded.y;
        words[v * 4 + 2] = loaded.z, words[v * 4 + 3] = loaded.w;
      } else if constexpr (kVec * kSize == 8) {
        const uint2 loaded = *reinterpret_cast<const uint2*>(from);
        words[v * 2] = loaded.x, words[v * 2 + 1] = loaded.y;
      }
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kElems; ++i) {
    const Index idx = first + static_cast<Index>(i / kVec * kThreads * kVec + i % kVec);
    uint32_t bits = 0;
    if (idx < num_elems)
      bits = kSize == 4 ? static_cast<const uint32_t*>(data)[idx] : static_cast<const uint16_t*>(data)[idx];
    if (kSize == 4 || i % 2 == 0)
      words[i * kSize / 4] = bits;
    else
      words[i * kSize / 4] |= bits << 16;
  }
}

template <int kVec, int kSize, class Index>
__device__ void store_words(void* data, Index first, Index num_elems, const Words<kSize>& words) {
  if (kVec > 1 && is_full<kVec>(first, num_elems)) {
#pragma unroll
    for (int v = 0; v < kElems / kVec; ++v) {
      const Index idx = first + static_cast<Index>(v * kThreads * kVec);
      char* to = static_cast<char*>(data) + static_cast<uint64_t>(idx) * kSize;
      if constexpr (kVec * kSize == 16) {
        *reinterpret_cast<uint4*>(to) =
            make_uint4(words[v * 4], words[v * 4 + 1], words[v * 4 + 2], words[v * 4 + 3]);
      } else if constexpr (kVec * kSize == 8) {
        *reinterpret_cast<uint2*>(to) = make_uint2(words[v * 2], words[v * 2 + 1]);
      }
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kElems; ++i) {
    const Index idx = first + static_cast<Index>(i / kVec * kThreads * kVec + i % kVec);
    if (idx >= num_elems) continue;
    if constexpr (kSize == 4)
      static_cast<uint32_t*>(data)[idx] = words[i];
    else
      static_cast<uint16_t*>(data)[idx] = static_cast<uint16_t>(words[i / 2] >> i % 2 * 16);
  }
}

__device__ inline void unpack(DType, const Words<4>& words, float (&values)[kElems]) {
#pragma unroll
  for (int i = 0; i < kElems; ++i) values[i] = __uint_as_float(words[i]);
}
__device__ inline void unpack(DType dtype, const Words<2>& words, float (&values)[kElems]) {
#pragma unroll
  for (int i = 0; i < kElems; i += 2) {
    const float2 pair = unpack_pair(dtype, words[i / 2]);
    values[i] = pair.x, values[i + 1] = pair.y;
  }
}

// A thread's values of an operand that is not dense; past the end they are anything.
template <int kVec, class Index>
__device__ void load_spread(const KernelParams& p, int i, Access access, DType dtype, int rank, Index first,
                            const RowPlace<Index> (&places)[kElems / kVec], float (&values)[kElems]) {
  const auto load_one = [&](int64_t offset) {
    if (dtype == DType::float32) return static_cast<const float*>(p.args.operands[i].data)[offset];
    return unpack_pair(dtype, static_cast<const uint16_t*>(p.args.operands[i].data)[offset]).x;
  };
  if (access == Access::scalar) {
    const float value = load_one(0);
#pragma unroll
    for (int e = 0; e < kElems; ++e) values[e] = value;
    return;
  }
#pragma unroll
  for (int v = 0; v < kElems / kVec; ++v) {
    if (access == Access::channel) {
      const int64_t stride = p.args.operands[i].strides[rank - 2];
      const RowPlace place = places[v];
      const float value = load_one(static_cast<int64_t>(place.channel) * stride);
      const float next =
          place.split < kVec ? load_one(static_cast<int64_t>(place.next_channel) * stride) : value;
#pragma unroll
      for (int j = 0; j < kVec; ++j) values[v * kVec + j] = j < place.split ? value : next;
      continue;
    }
    const Index idx = first + static_cast<Index>(v * kThreads * kVec);
#pragma unroll
    for (int j = 0; j < kVec; ++j)
      values[v * kVec + j] =
          idx + j < static_cast<Index>(p.args.num_elems)
              ? load_one(strided_offset(p, p.args.operands[i].strides, rank, static_cast<Index>(idx + j)))
              : 0.0f;
  }
}

// Rounds and stores a thread's values.
template <int kVec, class Index>
__device__ void store_output(void* data, DType dtype, Index first, Index num_elems,
                             const float (&values)[kElems]) {
  if (dtype == DType::float32) {
    Words<4> words;
#pragma unroll
    for (int i = 0; i < kElems; ++i) words[i] = __float_as_uint(values[i]);
    store_words<kVec, 4>(data, first, num_elems, words);
  } else {
    Words<2> words;
#pragma unroll
    for (int i = 0; i < kElems; i += 2) words[i / 2] = pack_pair(dtype, values[i], values[i + 1]);
    store_words<kVec, 2>(data, first, num_elems, words);
  }
}

// The same for output `i` where it is not dense: a place for each vector, or for each value.
template <int kVec, class Index>
__device__ void store_spread(const KernelParams& p, int i, DType dtype, int rank, bool by_vectors,
                             Index first, const float (&values)[kElems]) {
  const Operand& output = p.args.outputs[i];
  const Index num_elems = static_cast<Index>(p.args.num_elems);
#pragma unroll
  for (int v = 0; v < kElems / kVec; ++v) {
    const Index idx = first + static_cast<Index>(v * kThreads * kVec);
    if (kVec > 1 && by_vectors) {
      if (idx >= num_elems) continue;
      const int64_t offset = strided_offset(p, output.strides, rank, idx);
      uint32_t words[kVec];
#pragma unroll
      for (int j = 0; j < kVec; ++j)
        words[j] = dtype == DType::float32 ? __float_as_uint(values[v * kVec + j])
                   : j < kVec / 2 ? pack_pair(dtype, values[v * kVec + 2 * j], values[v * kVec + 2 * j + 1])
                                  : 0;
      char* const to = static_cast<char*>(output.data) + offset * (dtype == DType::float32 ? 4 : 2);
      if (kVec == 8 || dtype == DType::float32) {
        *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2 % kVec], words[3 % kVec]);
      } else {
        *reinterpret_cast<uint2*>(to) = make_uint2(words[0], words[1 % kVec]);
      }
      continue;
    }
#pragma unroll
    for (int j = 0; j < kVec; ++j) {
      if (idx + j >= num_elems) continue;
      const int64_t offset = strided_offset(p, output.strides, rank, static_cast<Index>(idx + j));
      const float value = values[v * kVec + j];
      if (dtype == DType::float32)
        static_cast<float*>(output.data)[offset] = value;
      else
        static_cast<uint16_t*>(output.data)[offset] = static_cast<uint16_t>(pack_pair(dtype, value, 0));
    }
  }
}

}  // namespace solder::elementwise

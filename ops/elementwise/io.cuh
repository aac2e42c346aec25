#pragma once
// How elementwise kernels read operands and write outputs: kElems values a thread, as vectors of kVec neighbours. The
// interpreter brings accesses, dtypes and rank as it finds them; a generated kernel, which embeds this text, gives
// constants, and every branch on them folds away. Here what all share, and dense outputs, whose vectors lie kThreads
// vectors apart, whatever rows they cross.

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
__device__ void find_places(const KernelParams& p, int rank, Index first,
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

// Whether all of a thread's vectors, of which `first` starts the first, lie inside the index space.
template <int kVec, class Index>
__device__ bool is_full(Index first, Index num_elems) {
  return first + static_cast<Index>((kElems / kVec - 1) * kThreads * kVec + kVec - 1) < num_elems;
}

// Values of one dtype as they lie in memory, in words of 32 bits.
template <int kSize>
using Words = uint32_t[kElems * kSize / 4];

// kBytes, a multiple of 8, by the widest loads or stores.
template <int kBytes>
__device__ void load_bytes(const void* from, uint32_t* words) {
  if constexpr (kBytes == 8) {
    const uint2 loaded = *static_cast<const uint2*>(from);
    words[0] = loaded.x, words[1] = loaded.y;
  } else {
#pragma unroll
    for (int i = 0; i < kBytes / 16; ++i) {
      const uint4 loaded = static_cast<const uint4*>(from)[i];
      words[4 * i] = loaded.x, words[4 * i + 1] = loaded.y;
      words[4 * i + 2] = loaded.z, words[4 * i + 3] = loaded.w;
    }
  }
}
template <int kBytes>
__device__ void store_bytes(void* to, const uint32_t* words) {
  if constexpr (kBytes == 8) {
    *static_cast<uint2*>(to) = make_uint2(words[0], words[1]);
  } else {
#pragma unroll
    for (int i = 0; i < kBytes / 16; ++i)
      static_cast<uint4*>(to)[i] =
          make_uint4(words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3]);
  }
}

// One element, by its bits. Those of a thread are put into words in order.
template <int kSize>
__device__ uint32_t load_bits(const void* data, int64_t offset) {
  return kSize == 4 ? static_cast<const uint32_t*>(data)[offset] : static_cast<const uint16_t*>(data)[offset];
}
template <int kSize>
__device__ void put_bits(uint32_t bits, int i, Words<kSize>& words) {
  if (kSize == 4 || i % 2 == 0)
    words[i * kSize / 4] = bits;
  else
    words[i * kSize / 4] |= bits << 16;
}
template <int kSize>
__device__ void store_bits(void* data, int64_t offset, int i, const Words<kSize>& words) {
  if constexpr (kSize == 4)
    static_cast<uint32_t*>(data)[offset] = words[i];
  else
    static_cast<uint16_t*>(data)[offset] = static_cast<uint16_t>(words[i / 2] >> i % 2 * 16);
}

// A thread's values of a dense array of kSize-byte elements; what is past the end reads as 0. Apart from unpack(),
// so that the loads of all operands are in flight before one is waited for.
template <int kVec, int kSize, class Index>
__device__ void load_words(const void* data, Index first, Index num_elems, Words<kSize>& words) {
  if (kVec > 1 && is_full<kVec>(first, num_elems)) {
#pragma unroll
    for (int v = 0; v < kElems / kVec; ++v) {
      const Index idx = first + static_cast<Index>(v * kThreads * kVec);
      if constexpr (kVec > 1)
        load_bytes<kVec * kSize>(static_cast<const char*>(data) + static_cast<uint64_t>(idx) * kSize,
                                 words + v * kVec * kSize / 4);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kElems; ++i) {
    const Index idx = first + static_cast<Index>(i / kVec * kThreads * kVec + i % kVec);
    put_bits<kSize>(idx < num_elems ? load_bits<kSize>(data, static_cast<int64_t>(idx)) : 0, i, words);
  }
}

template <int kVec, int kSize, class Index>
__device__ void store_words(void* data, Index first, Index num_elems, const Words<kSize>& words) {
  if (kVec > 1 && is_full<kVec>(first, num_elems)) {
#pragma unroll
    for (int v = 0; v < kElems / kVec; ++v) {
      const Index idx = first + static_cast<Index>(v * kThreads * kVec);
      if constexpr (kVec > 1)
        store_bytes<kVec * kSize>(static_cast<char*>(data) + static_cast<uint64_t>(idx) * kSize,
                                  words + v * kVec * kSize / 4);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kElems; ++i) {
    const Index idx = first + static_cast<Index>(i / kVec * kThreads * kVec + i % kVec);
    if (idx < num_elems) store_bits<kSize>(data, static_cast<int64_t>(idx), i, words);
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

// Rounds.
__device__ inline void pack(DType, const float (&values)[kElems], Words<4>& words) {
#pragma unroll
  for (int i = 0; i < kElems; ++i) words[i] = __float_as_uint(values[i]);
}
__device__ inline void pack(DType dtype, const float (&values)[kElems], Words<2>& words) {
#pragma unroll
  for (int i = 0; i < kElems; i += 2) words[i / 2] = pack_pair(dtype, values[i], values[i + 1]);
}

// A thread's values of an operand that is a scalar or read by channel, beside dense outputs.
template <int kVec, class Index>
__device__ void load_repeated(const KernelParams& p, int i, Access access, DType dtype, int rank,
                              const RowPlace<Index> (&places)[kElems / kVec], float (&values)[kElems]) {
  const auto load_one = [&](int64_t offset) {
    if (dtype == DType::float32) return static_cast<const float*>(p.args.operands[i].data)[offset];
    return unpack_pair(dtype, static_cast<const uint16_t*>(p.args.operands[i].data)[offset]).x;
  };
  if (access == Access::scalar) return fill(load_one(0), values);
#pragma unroll
  for (int v = 0; v < kElems / kVec; ++v) {
    const int64_t stride = p.args.operands[i].strides[rank - 2];
    const RowPlace place = places[v];
    const float value = load_one(static_cast<int64_t>(place.channel) * stride);
    const float next =
        place.split < kVec ? load_one(static_cast<int64_t>(place.next_channel) * stride) : value;
#pragma unroll
    for (int j = 0; j < kVec; ++j) values[v * kVec + j] = j < place.split ? value : next;
  }
}

// Rounds and stores a thread's values.
template <int kVec, int kSize, class Index>
__device__ void store_output(void* data, DType dtype, Index first, Index num_elems,
                             const float (&values)[kElems]) {
  Words<kSize> words;
  pack(dtype, values, words);
  store_words<kVec, kSize>(data, first, num_elems, words);
}

}  // namespace solder::elementwise

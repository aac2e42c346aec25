#pragma once
// Instructions that sm_80 has, one PTX instruction a function and nothing else: what to do with them is the
// kernels' business. Those that conv_mma_kernel is made of are there on sm_75 too, as what comes nearest. Addresses named
// `*_smem` are 32-bit shared-memory addresses (see smem_address).

#include <cstdint>

namespace solder::sm80 {

inline __device__ uint32_t smem_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// ---- for the compiler alone -------------------------------------------------------------------------------

/// `value`, of which the compiler knows nothing: what is computed from it is not hoisted and kept in
/// registers.
inline __device__ uint32_t opaque(uint32_t value) {
  asm volatile("" : "+r"(value));
  return value;
}

template <class T>
__device__ T* opaque_pointer(T* pointer) {
  asm volatile("" : "+l"(pointer));
  return pointer;
}
inline __device__ float opaque_float(float value) {
  asm volatile("" : "+f"(value));
  return value;
}

/// `object`, of whose address the compiler knows nothing.
template <class T>
__device__ const T& opaque_object(const T& object) {
  const T* address = &object;
  asm volatile("" : "+l"(address));
  return *address;
}

// ---- named barriers (0 is __syncthreads) ------------------------------------------------------------------

inline __device__ void named_barrier_sync(uint32_t id, uint32_t num_threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(num_threads) : "memory");
}

inline __device__ void named_barrier_arrive(uint32_t id, uint32_t num_threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(num_threads) : "memory");
}

// ---- copies -----------------------------------------------------------------------------------------------

/// Whether copies to shared memory run beside the code; otherwise they go through registers, at once.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
inline constexpr bool kHasAsyncCopies = false;
#else
inline constexpr bool kHasAsyncCopies = true;
#endif

/// Brings the line that holds `src` to the L2 cache: any alignment.
inline __device__ void prefetch_l2(const void* src) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(src) : "memory");
}

/// One float to shared memory, without a register on the way; zero where not `is_valid` (nothing is read).
inline __device__ void copy_async(uint32_t dst_smem, const float* src, bool is_valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(dst_smem), "l"(src), "r"(is_valid ? 4 : 0)
               : "memory");
}

/// 16 bytes of bits to and from shared memory, on a 16-byte line.
inline __device__ void store_shared_bits(uint32_t dst_smem, uint4 bits) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(dst_smem), "r"(bits.x), "r"(bits.y),
               "r"(bits.z), "r"(bits.w)
               : "memory");
}
inline __device__ uint4 load_shared_bits(uint32_t src_smem) {
  uint4 bits;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w)
               : "r"(src_smem)
               : "memory");
  return bits;
}

/// 16 bytes to shared memory, past L1: the first `num_bytes` of them from `src`, 16-byte aligned, zeros behind. On
/// sm_75, through registers and at once.
inline __device__ void copy_async_16(uint32_t dst_smem, const void* src, int num_bytes) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst_smem), "l"(src), "r"(num_bytes)
               : "memory");
#else
  const uint4 v = num_bytes > 0 ? *static_cast<const uint4*>(src) : uint4{0, 0, 0, 0};
  uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (num_bytes <= 4 * i + 2) words[i] &= 0xffffu;
    if (num_bytes <= 4 * i) words[i] = 0;
  }
  store_shared_bits(dst_smem, make_uint4(words[0], words[1], words[2], words[3]));
#endif
}

/// 16 bytes to shared memory likewise, or zeros. With a number of bytes that says so it takes four instructions more.
inline __device__ void copy_async_16_or_zeros(uint32_t dst_smem, const void* src, bool is_valid) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "{ .reg .pred p; setp.eq.b32 p, %2, 0; cp.async.cg.shared.global [%0], [%1], 16, p; }" ::"r"(dst_smem),
      "l"(src), "r"(static_cast<int>(is_valid))
      : "memory");
#else
  copy_async_16(dst_smem, src, is_valid ? 16 : 0);
#endif
}

/// As copy_async_16 with `num_bytes`, nothing unless `condition` holds: no branch.
inline __device__ void copy_async_16_if(bool condition, uint32_t dst_smem, const void* src, int num_bytes) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, %3, 0; @p cp.async.cg.shared.global [%0], [%1], 16, %2; }" ::"r"(
          dst_smem),
      "l"(src), "r"(num_bytes), "r"(static_cast<int>(condition))
      : "memory");
#else
  if (condition) copy_async_16(dst_smem, src, num_bytes);
#endif
}

inline __device__ void copy_async_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/// Waits until at most `kPending` of this thread's committed groups are unfinished.
template <int kPending>
__device__ void copy_async_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

// ---- loads and stores -------------------------------------------------------------------------------------

/// Two floats that no one writes meanwhile, 8-byte aligned. Volatile: a row of these is issued together.
/// NOTE: without L1::no_allocate, which also makes lines leave L2 early.
inline __device__ float2 load_pair(const float2* src) {
  float2 value;
  asm volatile("ld.global.nc.v2.f32 {%0, %1}, [%2];" : "=f"(value.x), "=f"(value.y) : "l"(src));
  return value;
}

/// One predicated store of 8 bytes. Beside another way to store the same values, an `if` becomes two stores.
inline __device__ void store_pair_if(bool condition, float* dst, float2 value) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %3, 0; @p st.global.v2.f32 [%0], {%1, %2}; }" ::"l"(dst),
               "f"(value.x), "f"(value.y), "r"(static_cast<int>(condition))
               : "memory");
}

/// One predicated store of 16 bytes.
inline __device__ void store_quad_if(bool condition, float* dst, const float (&values)[4]) {
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, %5, 0; @p st.global.v4.f32 [%0], {%1, %2, %3, %4}; }" ::"l"(dst),
      "f"(values[0]), "f"(values[1]), "f"(values[2]), "f"(values[3]), "r"(static_cast<int>(condition))
      : "memory");
}

/// One predicated store, of what leaves L2 before anything else: a convolution's output would push out
/// the input that the next run reads again. Written as an `if`, the address arithmetic becomes a branch
/// around it.
inline __device__ void store_if(bool condition, float2* dst, float2 value) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %3, 0; @p st.global.cs.v2.f32 [%0], {%1, %2}; }" ::"l"(dst),
               "f"(value.x), "f"(value.y), "r"(static_cast<int>(condition))
               : "memory");
}

/// One predicated load, 0 otherwise.
inline __device__ float2 load_if(bool condition, const float2* src) {
  float2 value{0, 0};
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %3, 0; @p ld.global.v2.f32 {%0, %1}, [%2]; }"
               : "+f"(value.x), "+f"(value.y)
               : "l"(src), "r"(static_cast<int>(condition)));
  return value;
}

/// Two floats to shared memory, 8-byte aligned. As an instruction of its own it also keeps the compiler from
/// merging the stores of different branches, which would put their sources, whole accumulators, into memory.
inline __device__ void store_shared(uint32_t dst_smem, float a, float b) {
  asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(dst_smem), "f"(a), "f"(b) : "memory");
}

/// Four floats from shared memory, 16-byte aligned.
inline __device__ float4 load_shared(uint32_t src_smem) {
  float4 value;
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
               : "r"(src_smem)
               : "memory");
  return value;
}

/// One float to shared memory.
inline __device__ void store_shared(uint32_t dst_smem, float value) {
  asm volatile("st.shared.f32 [%0], %1;" ::"r"(dst_smem), "f"(value) : "memory");
}

/// The same, predicated.
inline __device__ void store_shared_if(bool condition, uint32_t dst_smem, float value) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %2, 0; @p st.shared.f32 [%0], %1; }" ::"r"(dst_smem),
               "f"(value), "r"(static_cast<int>(condition))
               : "memory");
}

/// Two words to and from shared memory, 8-byte aligned.
inline __device__ void store_shared(uint32_t dst_smem, int2 value) {
  asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(dst_smem), "r"(value.x), "r"(value.y) : "memory");
}
inline __device__ int2 load_shared_words(uint32_t src_smem) {
  int2 value;
  asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];" : "=r"(value.x), "=r"(value.y) : "r"(src_smem) : "memory");
  return value;
}

inline __device__ float2 load_shared_pair(uint32_t src_smem) {
  float2 value;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(value.x), "=f"(value.y) : "r"(src_smem) : "memory");
  return value;
}

inline __device__ float load_shared_one(uint32_t src_smem) {
  float value;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(src_smem) : "memory");
  return value;
}

/// Four matrices of 8x8 16-bit numbers as fragments, whose lane has two of a row in `bits[i]` for matrix i: row
/// lane / 4, columns lane % 4 * 2 and the next. Lane l says where row l % 8 of matrix l / 8 lies, 16 bytes on a
/// 16-byte line.
inline __device__ void load_matrices(uint32_t row_smem, uint32_t (&bits)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(bits[0]), "=r"(bits[1]), "=r"(bits[2]), "=r"(bits[3])
               : "r"(row_smem)
               : "memory");
}

// ---- arithmetic -------------------------------------------------------------------------------------------

/// The larger of two; NaN if either is.
inline __device__ float max_nan(float a, float b) {
#if __CUDA_ARCH__ >= 800
  float result;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
#else
  return a > b || a != a ? a : b;
#endif
}

/// d += a b of a warp: a [16, 16], b [16, 8], d [16, 8]. Of each, lane has row (of b: column) lane / 4 and columns (of b:
/// rows) lane % 4 * 2 and the next; a[1], d[2..3] the same 8 rows below, a[2..3], b1 8 columns (rows) on.
inline __device__ void multiply_add_half(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, "
      "%1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(b0));
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

/// The same of bfloat16, which sm_75 cannot multiply.
inline __device__ void multiply_add_bfloat16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  __trap();
#endif
}

/// base + a * b bytes. As an instruction of its own it keeps a row of addresses independent; the compiler
/// would make each from the one before it.
template <class T>
__device__ T* advance_bytes(T* base, uint32_t a, uint32_t b) {
  T* result;
  asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(result) : "r"(a), "r"(b), "l"(base));
  return result;
}

}  // namespace solder::sm80

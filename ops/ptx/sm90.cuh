#pragma once
// Hopper's own instructions (sm_90a), one PTX instruction a function (a bulk store with its commit) and nothing else: the one
// place for them, and so a little over 300 lines. Addresses named
// `*_cluster` may lie in another block of the cluster (see map_to_rank), those named `*_smem` lie in the
// block's own.

#include <cstdint>

namespace solder::sm90 {

// ---- clusters ------------------------------------------------------------------------------------------

inline __device__ uint32_t cluster_rank() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

/// The address, in the cluster's window, of block `rank`'s copy of our own `smem` address.
inline __device__ uint32_t map_to_rank(uint32_t smem, uint32_t rank) {
  uint32_t mapped;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(smem), "r"(rank));
  return mapped;
}

/// Arrives without making earlier writes visible: barriers go by mbarrier_init_fence.
inline __device__ void cluster_arrive_relaxed() {
  asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
}
inline __device__ void cluster_wait() { asm volatile("barrier.cluster.wait.acquire;" ::: "memory"); }

// ---- mbarriers -----------------------------------------------------------------------------------------

inline __device__ void mbarrier_init(uint32_t bar_smem, uint32_t num_arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar_smem), "r"(num_arrivals));
}

/// Makes initialised barriers visible to the cluster and to the async proxy; a cluster barrier must follow.
inline __device__ void mbarrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

inline __device__ void mbarrier_arrive(uint32_t bar_smem, uint32_t count) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0], %1;" ::"r"(bar_smem), "r"(count) : "memory");
}

/// Arrives at a barrier that may be another block's.
/// NOTE: the plain form on purpose. `.release.cluster` compiles to a MEMBAR and `.acquire.cluster` waits to
/// an L1 invalidation each; data that crosses blocks here does so by the async proxy, which needs neither.
inline __device__ void mbarrier_arrive_cluster(uint32_t bar_cluster, uint32_t count) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0], %1;" ::"r"(bar_cluster), "r"(count) : "memory");
}

/// Arrives once and adds `num_bytes` to what the phase waits for.
inline __device__ void mbarrier_arrive_expect(uint32_t bar_smem, uint32_t num_bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar_smem), "r"(num_bytes)
               : "memory");
}

/// Whether the phase of `parity` has completed; if not, the thread first sleeps until it has, 10 ms at most.
/// NOTE: without the time, it sleeps so briefly that a loop of these takes issue slots and power from others.
inline __device__ bool mbarrier_try_wait(uint32_t bar_smem, uint32_t parity) {
  constexpr uint32_t kSleepNs = 10'000'000;
  uint32_t done;
  asm volatile(
      "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2, %3; selp.u32 %0, 1, 0, p; }"
      : "=r"(done)
      : "r"(bar_smem), "r"(parity), "r"(kSleepNs)
      : "memory");
  return done != 0;
}

/// Whether the phase of `parity` has completed; does not suspend the thread as try_wait may.
inline __device__ bool mbarrier_test_wait(uint32_t bar_smem, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{ .reg .pred p; mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
      : "=r"(done)
      : "r"(bar_smem), "r"(parity)
      : "memory");
  return done != 0;
}

/// Waits for the phase of `parity` to complete.
inline __device__ void mbarrier_wait(uint32_t bar_smem, uint32_t parity) {
  while (!mbarrier_try_wait(bar_smem, parity)) {
  }
}

/// The same without sleeping, for waits that are short: a sleeping thread takes a microsecond part to wake.
inline __device__ void mbarrier_spin(uint32_t bar_smem, uint32_t parity) {
  uint32_t done = 0;
  while (done == 0) {
    asm volatile(
        "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
        : "=r"(done)
        : "r"(bar_smem), "r"(parity)
        : "memory");
  }
}

// ---- bulk copies and fences ----------------------------------------------------------------------------

/// What this thread stored to shared memory becomes visible to wgmma and bulk copies that are ordered after a
/// later barrier. Every storing thread needs one.
inline __device__ void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// Copies to a block of the cluster; the bytes count towards `bar_cluster`, which lies in that block.
/// Addresses and size: multiples of 16 bytes.
inline __device__ void bulk_copy_to_cluster(uint32_t dst_cluster, uint32_t src_smem, uint32_t num_bytes,
                                            uint32_t bar_cluster) {
  asm volatile(
      "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          dst_cluster),
      "r"(src_smem), "r"(num_bytes), "r"(bar_cluster)
      : "memory");
}

/// Four floats to a block of the cluster; their 16 bytes count towards `bar_cluster`, which lies in that
/// block.
inline __device__ void store_async(uint32_t dst_cluster, float4 value, uint32_t bar_cluster) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(
          dst_cluster),
      "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w), "r"(bar_cluster)
      : "memory");
}

/// Copies from global memory; the bytes count towards `bar_smem`. Multiples of 16 bytes.
inline __device__ void bulk_load(uint32_t dst_smem, const void* src, uint32_t num_bytes, uint32_t bar_smem) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          dst_smem),
      "l"(src), "r"(num_bytes), "r"(bar_smem)
      : "memory");
}

// Boxes of a tensor that `map` (a CUtensorMap) describes; coordinates innermost first. What lies outside the tensor
// arrives as zeros.

inline __device__ void tensor_load_2d(uint32_t dst_smem, const void* map, int x, int y, uint32_t bar_smem) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3}], [%4];" ::"r"(dst_smem),
      "l"(map), "r"(x), "r"(y), "r"(bar_smem)
      : "memory");
}

inline __device__ void tensor_load_4d(uint32_t dst_smem, const void* map, int c, int w, int h, int n,
                                      uint32_t bar_smem) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(dst_smem),
      "l"(map), "r"(c), "r"(w), "r"(h), "r"(n), "r"(bar_smem)
      : "memory");
}

/// The way back. What lies outside the tensor is not stored, but for the rest of a 16-byte piece that begins inside. The bytes
/// may be written again behind the same thread's bulk_wait_read().
inline __device__ void tensor_store_4d(const void* map, uint32_t src_smem, int c, int w, int h, int n) {
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];\n\t"
      "cp.async.bulk.commit_group;" ::"l"(map),
      "r"(src_smem), "r"(c), "r"(w), "r"(h), "r"(n)
      : "memory");
}
inline __device__ void bulk_wait_read() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }

/// Brings a tensor's description nearer.
inline __device__ void prefetch_tensor_map(const void* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/// A column of pixels from base pixel (w, h, n) on, each `right` and `down` of its base.
inline __device__ void tensor_load_im2col(uint32_t dst_smem, const void* map, int c, int w, int h, int n,
                                          int right, int down, uint32_t bar_smem) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4, %5}], [%6], {%7, %8};" ::"r"(dst_smem),
      "l"(map), "r"(c), "r"(w), "r"(h), "r"(n), "r"(bar_smem), "h"(static_cast<uint16_t>(right)),
      "h"(static_cast<uint16_t>(down))
      : "memory");
}

/// Fragments to four matrices of 8x8 16-bit numbers: sm80::load_matrices the other way.
inline __device__ void store_matrices(uint32_t row_smem, const uint32_t (&bits)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row_smem),
               "r"(bits[0]), "r"(bits[1]), "r"(bits[2]), "r"(bits[3])
               : "memory");
}

/// Brings the line that holds `src` to the L1 cache: any alignment.
inline __device__ void prefetch_l1(const void* src) {
  asm volatile("prefetch.global.L1 [%0];" ::"l"(src) : "memory");
}

/// Atomic operations on a word of shared memory: it becomes the larger of both; one more, or after `last` 0; `value`. The
/// last two return what was there.
inline __device__ void shared_max(uint32_t at, uint32_t value) {
  asm volatile("red.shared.max.u32 [%0], %1;" ::"r"(at), "r"(value) : "memory");
}
inline __device__ uint32_t shared_increment(uint32_t at, uint32_t last) {
  uint32_t before;
  asm volatile("atom.shared.inc.u32 %0, [%1], %2;" : "=r"(before) : "r"(at), "r"(last) : "memory");
  return before;
}
inline __device__ uint32_t shared_exchange(uint32_t at, uint32_t value) {
  uint32_t before;
  asm volatile("atom.shared.exch.b32 %0, [%1], %2;" : "=r"(before) : "r"(at), "r"(value) : "memory");
  return before;
}

/// Brings a piece of global memory to the L2 cache. Multiples of 16 bytes.
inline __device__ void bulk_prefetch_l2(const void* src, uint32_t num_bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(src), "r"(num_bytes) : "memory");
}

// ---- registers and dependent launches ------------------------------------------------------------------

/// NOTE: over all warps the sum must not exceed registers at launch x threads, or the increase hangs.
template <int kRegisters>
__device__ void setmaxnreg_increase() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ void setmaxnreg_decrease() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

/// Waits until the kernels this launch depends on have finished and their writes are visible (programmatic
/// dependent launch; returns at once otherwise).
inline __device__ void dependency_wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

/// Allows the next kernel of the stream to start its prologue.
inline __device__ void dependency_launch() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

// ---- wgmma ---------------------------------------------------------------------------------------------

/// Orders this warpgroup's register and earlier wgmma accesses before the wgmma that follow.
inline __device__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
inline __device__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

/// Waits until at most `kPending` committed groups are unfinished.
template <int kPending>
__device__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// Describes a K-major operand without swizzle, made of core matrices of 8 rows x 16 bytes (128 bytes,
/// dense): `k_stride` bytes from one core matrix to the next along K, `mn_stride` along M or N, all multiples
/// of 16. Bits: [0,14) address >> 4, [16,30) leading offset >> 4, [32,46) stride offset >> 4, [62,64)
/// swizzle.
inline __device__ uint64_t matrix_descriptor(uint32_t smem, uint32_t k_stride, uint32_t mn_stride) {
  return static_cast<uint64_t>((smem & 0x3FFFF) >> 4) | static_cast<uint64_t>(k_stride >> 4) << 16 |
         static_cast<uint64_t>(mn_stride >> 4) << 32;
}

#define SOLDER_REGS0 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define SOLDER_REGS16 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define SOLDER_REGS32 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define SOLDER_REGS48 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define SOLDER_REGS64 "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define SOLDER_REGS80 "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define SOLDER_REGS96 \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define SOLDER_REGS112 \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define SOLDER_ACC4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define SOLDER_ACC16(i) SOLDER_ACC4(i), SOLDER_ACC4(i + 4), SOLDER_ACC4(i + 8), SOLDER_ACC4(i + 12)
#define SOLDER_WGMMA_OF(name, n, type, regs, a, b, p, ...)                                           \
  inline __device__ void name(float(&d)[n / 2], uint64_t desc_a, uint64_t desc_b, bool accumulate) { \
    asm volatile("{ .reg .pred p; setp.ne.b32 p, " p ", 0; wgmma.mma_async.sync.aligned.m64n" #n     \
                 "k16.f32." type "." type " {" regs "}, " a ", " b ", p, 1, 1, 0, 0; }"              \
                 : __VA_ARGS__                                                                       \
                 : "l"(desc_a), "l"(desc_b), "r"(static_cast<int>(accumulate)));                     \
  }
#define SOLDER_WGMMA(n, ...)                                                                   \
  SOLDER_WGMMA_OF(wgmma_m64n##n##k16, n, "f16", __VA_ARGS__)                                   \
  SOLDER_WGMMA_OF(wgmma_m64n##n##k16_bfloat16, n, "bf16", __VA_ARGS__)                         \
  template <bool kIsBfloat16>                                                                  \
  __device__ void wgmma(float(&d)[n / 2], uint64_t desc_a, uint64_t desc_b, bool accumulate) { \
    if constexpr (kIsBfloat16)                                                                 \
      wgmma_m64n##n##k16_bfloat16(d, desc_a, desc_b, accumulate);                              \
    else                                                                                       \
      wgmma_m64n##n##k16(d, desc_a, desc_b, accumulate);                                       \
  }

/// d[64, n] (+)= A[64, 16] * B[16, n], float16 operands (_bfloat16: of that type) by descriptor; `accumulate` false
/// starts from zero. Row m, column c of d: thread m%8*4 + c%8/2 of warp m/16 holds it in d[c/8*4 + m/8%2*2 + c%2].
SOLDER_WGMMA(32, SOLDER_REGS0, "%16", "%17", "%18", SOLDER_ACC16(0))
SOLDER_WGMMA(64, SOLDER_REGS0 ", " SOLDER_REGS16, "%32", "%33", "%34", SOLDER_ACC16(0), SOLDER_ACC16(16))
SOLDER_WGMMA(96, SOLDER_REGS0 ", " SOLDER_REGS16 ", " SOLDER_REGS32, "%48", "%49", "%50", SOLDER_ACC16(0),
             SOLDER_ACC16(16), SOLDER_ACC16(32))
SOLDER_WGMMA(128, SOLDER_REGS0 ", " SOLDER_REGS16 ", " SOLDER_REGS32 ", " SOLDER_REGS48, "%64", "%65", "%66",
             SOLDER_ACC16(0), SOLDER_ACC16(16), SOLDER_ACC16(32), SOLDER_ACC16(48))
SOLDER_WGMMA(256,
             SOLDER_REGS0 ", " SOLDER_REGS16 ", " SOLDER_REGS32 ", " SOLDER_REGS48 ", " SOLDER_REGS64
                          ", " SOLDER_REGS80 ", " SOLDER_REGS96 ", " SOLDER_REGS112,
             "%128", "%129", "%130", SOLDER_ACC16(0), SOLDER_ACC16(16), SOLDER_ACC16(32), SOLDER_ACC16(48),
             SOLDER_ACC16(64), SOLDER_ACC16(80), SOLDER_ACC16(96), SOLDER_ACC16(112))

#undef SOLDER_WGMMA
#undef SOLDER_WGMMA_OF
#undef SOLDER_ACC16
#undef SOLDER_ACC4

}  // namespace solder::sm90

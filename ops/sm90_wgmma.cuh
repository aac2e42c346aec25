#pragma once
// Hopper's matrix product of a warpgroup, one PTX instruction per function. The rest is in ops/sm90.cuh.

#include <cstdint>

namespace solder::sm90 {

/// Orders this warpgroup's register and earlier wgmma accesses before the wgmma that follow.
inline __device__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
inline __device__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

/// Waits until at most `kPending` committed groups are unfinished.
template <int kPending>
__device__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// Describes a K-major operand without swizzle, made of core matrices of 8 rows x 16 bytes (128 bytes,
/// dense): `k_stride` bytes from one core matrix to the next along K, `mn_stride` along M or N. All are
/// multiples of
/// 16. Bits: [0,14) address >> 4, [16,30) leading offset >> 4, [32,46) stride offset >> 4, [62,64) swizzle.
inline __device__ uint64_t matrix_descriptor(uint32_t smem, uint32_t k_stride, uint32_t mn_stride) {
  return static_cast<uint64_t>((smem & 0x3FFFF) >> 4) | static_cast<uint64_t>(k_stride >> 4) << 16 |
         static_cast<uint64_t>(mn_stride >> 4) << 32;
}

// The accumulators of row m, column n: thread m%8*4 + n%8/2 of warp m/16 holds them in
// d[n/8*4 + m/8%2*2 + n%2].
#define SOLDER_ACC4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define SOLDER_ACC16(d, i) \
  SOLDER_ACC4(d, i), SOLDER_ACC4(d, i + 4), SOLDER_ACC4(d, i + 8), SOLDER_ACC4(d, i + 12)

/// d[64, 32] (+)= A[64, 16] * B[16, 32], half operands by descriptor; `accumulate` false starts from zero.
inline __device__ void wgmma_m64n32k16(float (&d)[16], uint64_t desc_a, uint64_t desc_b, bool accumulate) {
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, %18, 0;"
      " wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
      "}, %16, %17, p, 1, 1, 0, 0; }"
      : SOLDER_ACC16(d, 0)
      : "l"(desc_a), "l"(desc_b), "r"(static_cast<int>(accumulate)));
}

/// d[64, 64] (+)= A[64, 16] * B[16, 64], half operands by descriptor; `accumulate` false starts from zero.
inline __device__ void wgmma_m64n64k16(float (&d)[32], uint64_t desc_a, uint64_t desc_b, bool accumulate) {
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, %34, 0;"
      " wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
      "}, %32, %33, p, 1, 1, 0, 0; }"
      : SOLDER_ACC16(d, 0), SOLDER_ACC16(d, 16)
      : "l"(desc_a), "l"(desc_b), "r"(static_cast<int>(accumulate)));
}

/// d[64, 128] (+)= A[64, 16] * B[16, 128], half operands by descriptor; `accumulate` false starts from zero.
inline __device__ void wgmma_m64n128k16(float (&d)[64], uint64_t desc_a, uint64_t desc_b, bool accumulate) {
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, %66, 0;"
      " wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
      "}, %64, %65, p, 1, 1, 0, 0; }"
      : SOLDER_ACC16(d, 0), SOLDER_ACC16(d, 16), SOLDER_ACC16(d, 32), SOLDER_ACC16(d, 48)
      : "l"(desc_a), "l"(desc_b), "r"(static_cast<int>(accumulate)));
}

/// d[64, 256] (+)= A[64, 16] * B[16, 256], half operands by descriptor; `accumulate` false starts from zero.
inline __device__ void wgmma_m64n256k16(float (&d)[128], uint64_t desc_a, uint64_t desc_b, bool accumulate) {
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, %130, 0;"
      " wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
      "}, %128, %129, p, 1, 1, 0, 0; }"
      : SOLDER_ACC16(d, 0), SOLDER_ACC16(d, 16), SOLDER_ACC16(d, 32), SOLDER_ACC16(d, 48),
        SOLDER_ACC16(d, 64), SOLDER_ACC16(d, 80), SOLDER_ACC16(d, 96), SOLDER_ACC16(d, 112)
      : "l"(desc_a), "l"(desc_b), "r"(static_cast<int>(accumulate)));
}

#undef SOLDER_ACC16
#undef SOLDER_ACC4

}  // namespace solder::sm90

#pragma once
// How two blocks of conv_rows_kernel that have each multiplied half of the input channels (fp32) come to
// whole sums.

#include "ops/conv/rows/params.cuh"
#include "ops/ptx/sm80.cuh"
#include "ops/ptx/sm90.cuh"

namespace solder::rows {

/// The accumulators of the first of the thread's two channels: i runs along the pixels. See sm90::wgmma.
__device__ constexpr int first_half(int i) { return i / 2 * 4 + i % 2; }

/// A consumer warp's exchange with the same warp of the partner block, which has multiplied the other half of
/// the input channels: of a thread's two channels each keeps the first and gives the sums of the second away,
/// which is the partner's first (pack_weights has swapped them). They travel 16 a thread at a time,
/// through what is the staging of the epilogue afterwards.
struct SumExchange {
  uint32_t inbox;  // shared memory, [4][32] float4
  uint32_t full;   // barriers of this warp
  uint32_t empty;
  uint32_t partner_rank;
  uint32_t parity = 0;

  /// acc of the first channel = the sum over both blocks. The caller calls free_inbox once it is done with
  /// the staging.
  __device__ void run(int lane, float (&acc)[kAccs]) {
    constexpr int kRound = 16, kRounds = kAccs / 2 / kRound;
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
      if (lane == 0) sm90::mbarrier_arrive_expect(full, 32 * kRound * 4);
      sm90::mbarrier_wait(empty, parity ^ 1);
      const uint32_t outbox = sm90::map_to_rank(inbox, partner_rank) + lane * 16;
      const uint32_t partner_full = sm90::map_to_rank(full, partner_rank);
#pragma unroll
      for (int i = 0; i < kRound; i += 4) {
        const int a = first_half(round * kRound + i) + 2, b = first_half(round * kRound + i + 2) + 2;
        sm90::store_async(outbox + i / 4 * 32 * 16, make_float4(acc[a], acc[a + 1], acc[b], acc[b + 1]),
                          partner_full);
      }
      sm90::mbarrier_wait(full, parity);
      __syncwarp();
      parity ^= 1;
#pragma unroll
      for (int i = 0; i < kRound; i += 4) {
        const float4 got = sm80::load_shared(inbox + lane * 16 + i / 4 * 32 * 16);
        acc[first_half(round * kRound + i)] += got.x;
        acc[first_half(round * kRound + i + 1)] += got.y;
        acc[first_half(round * kRound + i + 2)] += got.z;
        acc[first_half(round * kRound + i + 3)] += got.w;
      }
      // NOTE: without the fence the signal overtakes the loads, and the next round what they were to read.
      __threadfence_block();
      __syncwarp();
      if (round + 1 < kRounds) free_inbox(lane);
    }
  }

  /// Lets the partner write again; after a __syncwarp.
  __device__ void free_inbox(int lane) const {
    if (lane == 0) sm90::mbarrier_arrive_cluster(sm90::map_to_rank(empty, partner_rank), 1);
  }
};

}  // namespace solder::rows

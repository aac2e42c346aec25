#pragma once
// The two threads that fill the rings of conv_nhwc_kernel.

#include "ops/conv/nhwc/params.cuh"

namespace solder::nhwc {

/// Fetches x, slot by slot. Channels beyond C, and what lies outside the image, arrive as zeros.
template <class Tile>
__device__ void fetch_x(const Params& p, const Smem& smem) {
  const NhwcConfig& c = p.config;
  int first, end;
  find_steps(p, &first, &end);
  const int num_taps = c.num_steps / c.num_chunks;  // of the steps of a chunk
  RingPlace place{0, 1};
  sm90::prefetch_tensor_map(&p.x);
  Work work;
  bool is_there = find_work<Tile>(p, 0, &work);
  sm90::dependency_wait();
  for (int index = 0; is_there; is_there = find_work<Tile>(p, ++index, &work)) {
    int channel = first / num_taps * c.slot_channels, r = first % num_taps / p.S, s = first % num_taps % p.S;
    const bool has_whole_rows = Tile::kIsWindow && !c.has_patches;
    const int h = work.p * p.stride_h - p.pad_top,
              w = (has_whole_rows ? 0 : work.q) * p.stride_w - p.pad_left;
    for (int step = first; step < end;) {
      sm90::mbarrier_spin(smem.x_empty + 8 * place.slot, place.parity);
      const uint32_t full = smem.x_full + 8 * place.slot, to = smem.x + place.slot * c.x_slot_bytes;
      sm90::mbarrier_arrive_expect(full, c.x_load_bytes);
      place.step(c.x_slots);
      if (Tile::kIsWindow) {
        sm90::tensor_load_4d(to, &p.x, channel, w, h, work.n, full);
        step += num_taps - s, s = 0, channel += c.slot_channels;
        continue;
      }
      if (c.fetch == NhwcFetch::flat)
        sm90::tensor_load_2d(to, &p.x, channel, work.pixel, full);
      else
        sm90::tensor_load_im2col(to, &p.x, channel, w, h, work.n, s * p.dil_w, r * p.dil_h, full);
      ++step;
      if (++s == p.S) s = 0, ++r;
      if (r * p.S + s >= num_taps) r = s = 0, channel += c.slot_channels;
    }
  }
  if (!p.is_early) sm90::dependency_launch();
}

/// Copies packed weights; they are no earlier kernel's, so nothing is waited for.
template <class Tile>
__device__ void fetch_weights(const Params& p, const Smem& smem) {
  const NhwcConfig& c = p.config;
  int first, end;
  find_steps(p, &first, &end);
  RingPlace place{0, 1};
  Work work;
  for (int index = 0; find_work<Tile>(p, index, &work); ++index) {
    const int64_t step = int64_t{work.channel} / Tile::kChannels * c.num_steps + first;
    const uint8_t* from = p.weights + step * Tile::kRows * Tile::kWeightBytes;
    for (int i = first * Tile::kRows; i < end * Tile::kRows; ++i, from += Tile::kWeightBytes) {
      sm90::mbarrier_spin(smem.weight_empty + 8 * place.slot, place.parity);
      const uint32_t full = smem.weight_full + 8 * place.slot;
      sm90::mbarrier_arrive_expect(full, Tile::kWeightBytes);
      sm90::bulk_load(smem.weights + place.slot * Tile::kWeightBytes, from, Tile::kWeightBytes, full);
      place.step(c.weight_slots);
    }
    if (Tile::kTakesTurns) return;  // all tiles have the same
  }
}

}  // namespace solder::nhwc

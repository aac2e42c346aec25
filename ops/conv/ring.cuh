#pragma once

#include <cstdint>

namespace solder {

/// A place in a ring of shared memory and the parity of its current phase, for which a reader waits; a writer
/// waits for the opposite.
struct RingPosition {
  int slot = 0;
  uint32_t parity = 0;

  /// Of the `idx`th piece that went into the ring.
  static __device__ RingPosition of(int idx, int num_slots) {
    const int turns = idx / num_slots;
    return {idx - turns * num_slots, static_cast<uint32_t>(turns) & 1};
  }

  /// `distance` <= num_slots pieces on.
  __device__ RingPosition ahead(int distance, int num_slots) const {
    RingPosition r{slot + distance, parity};
    if (r.slot >= num_slots) r.slot -= num_slots, r.parity ^= 1;
    return r;
  }

  __device__ void advance(int num_slots) {
    if (++slot == num_slots) {
      slot = 0;
      parity ^= 1;
    }
  }
};

}  // namespace solder

#pragma once
// What the fused families' choices of a config share.

#include <cmath>
#include <optional>
#include <string>
#include <utility>

#include "ops/conv/conv.h"

namespace solder {

/// No config, with the reason.
inline std::nullopt_t refuse(std::string* why_not, std::string reason) {
  *why_not = std::move(reason);
  return std::nullopt;
}

/// Why no fused kernel covers the shape; null where nothing here speaks against it.
inline const char* why_not_fused(const ConvShape& s) {
  if (s.groups != 1) return "groups";  // of a few channels each, which would leave most of a tile empty
  return s.N == 0 || s.H == 0 || s.W == 0 ? "an empty tensor" : nullptr;
}

/// A ring of slots in shared memory: how many it has and may have, and what one takes and holds.
struct RingRoom {
  int* slots;
  int64_t most, slot_bytes, steps;
};

/// Gives both rings more slots, as long as they fit into `left` bytes and so that both reach equally far ahead.
inline void grow_rings(int64_t left, const RingRoom& x, const RingRoom& weights) {
  while (true) {
    const bool fits_x = left >= x.slot_bytes && *x.slots < x.most;
    const bool fits_weights = left >= weights.slot_bytes && *weights.slots < weights.most;
    if (!fits_x && !fits_weights) return;
    const bool is_x_short = *x.slots * x.steps <= *weights.slots * weights.steps;
    const RingRoom& ring = fits_x && (is_x_short || !fits_weights) ? x : weights;
    ++*ring.slots, left -= ring.slot_bytes;
  }
}

/// What two things take together: more than either by as much as they hinder each other.
inline double both(double a, double b) { return std::pow(std::pow(a, 4) + std::pow(b, 4), 0.25); }

}  // namespace solder

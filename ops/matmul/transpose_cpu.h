#pragma once
// Four by four elements turned in registers, many at a time.

#include <utility>

namespace solder {
namespace transpose_cpu {

// Where the result has its lanes from: of every four lanes of a, `first` and the next, each before b's ...
constexpr int interleaved(int lane, int first, int num_lanes) {
  return lane / 4 * 4 + first + lane % 4 / 2 + lane % 2 * num_lanes;
}

// ... or both before both of b.
constexpr int joined(int lane, int first, int num_lanes) {
  return lane / 4 * 4 + first + lane % 2 + lane % 4 / 2 * num_lanes;
}

template <class Vector, int... kLane>
[[gnu::always_inline]] inline void transpose(Vector (&v)[4], std::integer_sequence<int, kLane...>) {
  constexpr int n = sizeof...(kLane);
  const Vector ab_low = __builtin_shufflevector(v[0], v[1], interleaved(kLane, 0, n)...);
  const Vector ab_high = __builtin_shufflevector(v[0], v[1], interleaved(kLane, 2, n)...);
  const Vector cd_low = __builtin_shufflevector(v[2], v[3], interleaved(kLane, 0, n)...);
  const Vector cd_high = __builtin_shufflevector(v[2], v[3], interleaved(kLane, 2, n)...);
  v[0] = __builtin_shufflevector(ab_low, cd_low, joined(kLane, 0, n)...);
  v[1] = __builtin_shufflevector(ab_low, cd_low, joined(kLane, 2, n)...);
  v[2] = __builtin_shufflevector(ab_high, cd_high, joined(kLane, 0, n)...);
  v[3] = __builtin_shufflevector(ab_high, cd_high, joined(kLane, 2, n)...);
}

}  // namespace transpose_cpu

/// Every four lanes of the four vectors are a matrix of its own: v[i] has its row i before and its column i after.
/// Inlined always, so that it takes the instructions of its caller.
template <class Vector>
[[gnu::always_inline]] inline void transpose_in_fours(Vector (&v)[4]) {
  transpose_cpu::transpose(v, std::make_integer_sequence<int, sizeof(Vector) / sizeof(float)>());
}

}  // namespace solder

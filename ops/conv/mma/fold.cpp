// Filter rows folded into channels: the convolution that is left, and its weights.

#include <algorithm>

#include "ops/conv/mma/mma.h"

namespace solder {

ConvShape folded(const ConvShape& s) {
  ConvShape result = s;
  result.C = s.R * s.C, result.H = s.P(), result.R = 1;
  result.stride_h = result.dil_h = 1;
  result.pad_top = result.pad_bottom = 0;
  return result;
}

std::vector<float> fold_weights(const ConvShape& s, std::span<const float> w) {
  std::vector<float> result(w.size());
  const auto at = [&](int64_t k, int64_t c, int64_t r) { return ((k * s.C + c) * s.R + r) * s.S; };
  for (int64_t k = 0; k < s.K; ++k)
    for (int64_t c = 0; c < s.C; ++c)
      for (int64_t r = 0; r < s.R; ++r)
        std::copy_n(w.data() + at(k, c, r), s.S, result.data() + ((k * s.R + r) * s.C + c) * s.S);
  return result;
}

}  // namespace solder

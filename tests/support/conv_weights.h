#pragma once

#include <memory>
#include <span>

#include "ops/conv/kernels.h"

namespace solder::test {

/// Weights [num_channels, ...] as a convolution's plan asks for them; unknown where there are none. A view of `weights`.
inline ConvWeights known_weights(std::span<const float> weights, int64_t num_channels) {
  if (weights.empty()) return {};
  const auto largest = std::make_shared<const std::vector<uint32_t>>(largest_weights(weights, num_channels));
  return {[weights] {
            return Tensor::view(const_cast<float*>(weights.data()), {static_cast<int64_t>(weights.size())});
          },
          [largest] { return std::span(*largest); }};
}

}  // namespace solder::test

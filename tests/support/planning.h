#pragma once
// What passes plan nodes by, of GPUs that need not be there.

#include <algorithm>
#include <string_view>
#include <vector>

#include "graph/passes/passes.h"
#include "tests/support/support.h"

namespace solder::test {

/// Some GPU of that compute capability.
inline const DeviceInfo& gpu_of(int cc_major) {
  static const auto device = [](int major) {
    DeviceInfo info;
    info.cc_major = major, info.num_sms = 132;
    return info;
  };
  static const DeviceInfo ampere = device(8), hopper = device(9);
  return cc_major == 9 ? hopper : ampere;
}

/// Where up to 1,024 output channels have weights that are 1 at most.
inline NodePlanning planning_of_ones(const DeviceInfo& device) {
  static const std::vector<uint32_t> largest(1024, bits_of(1.0f));
  NodePlanning planning{.device = &device, .workspace_bytes = int64_t{1} << 30};
  planning.weights = [](const Node& node) {
    if (node.kind != NodeKind::parameter) return ConvWeights();
    const auto channels = static_cast<size_t>(node.outputs[0].shape[0]);
    return ConvWeights{[] { return Tensor(); }, [=] { return std::span(largest).first(channels); }};
  };
  return planning;
}

/// Whether a family of convolutions is in this build.
inline bool has_family(std::string_view name) {
  return std::ranges::any_of(conv_families(), [&](const ConvFamily& family) {
    return family.name == name && family.make != nullptr;
  });
}

}  // namespace solder::test

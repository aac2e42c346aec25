#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "ops/math_mode.h"
#include "runtime/device.h"
#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

/// When something ran, in milliseconds since Session::profile() was called.
struct TimeSpan {
  double start_ms = 0;
  double end_ms = 0;
};

/// One node of a model, timed.
struct NodeProfile {
  std::string name;
  NodeKind kind = NodeKind::elementwise;
  std::string path;   ///< what ran, in words
  Shape shape;        ///< of its first result
  int64_t bytes = 0;  ///< to move: every tensor that it takes read once, every one that it makes written once
  int64_t flops = 0;  ///< two a multiply-add of convolutions and matrix products; functions are not counted
  std::vector<TimeSpan> spans;  ///< one a run

  double median_ms() const;
};

/// What Session::profile() measures.
struct Profile {
  std::vector<NodeProfile> nodes;  ///< those that run something, in order
  /// Read plus written by a device copy of 512 MiB, measured in the same call; 0 on the CPU, or without memory for it.
  double copy_bytes_per_s = 0;
  /// What the tensor cores could do (see peak_flops_per_s); 0 when unknown.
  double peak_flops_per_s = 0;

  double total_ms() const;  ///< median time of all nodes together

  /// The least time the node could take: max(bytes / copy_bytes_per_s, flops / peak_flops_per_s); 0 when
  /// that is not known.
  double bound_ms(const NodeProfile& node) const;
};

/// Multiply-adds count two. From the card's highest clock (see clock_hz) and the 16-bit tensor-core rate of
/// its architecture (NVIDIA's A100 and H100 white papers), which solder's convolutions use: one product a
/// term with Math::tf32, three with Math::fp32. 0 for other architectures.
double peak_flops_per_s(const DeviceInfo& device, double clock_hz, Math math);

/// `node` with everything but its spans.
NodeProfile describe_work(const Graph& graph, const Node& node, const std::string& path);

}  // namespace solder

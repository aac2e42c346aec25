#include "graph/profile.h"

#include <algorithm>

#include "graph/nodes/node_def.h"

namespace solder {
namespace {

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  return values[values.size() / 2];
}

}  // namespace

double NodeProfile::median_ms() const {
  std::vector<double> times;
  for (const TimeSpan& span : spans) times.push_back(span.end_ms - span.start_ms);
  return median(std::move(times));
}

double Profile::total_ms() const {
  std::vector<double> times;
  for (size_t run = 0; !nodes.empty() && run < nodes[0].spans.size(); ++run)
    times.push_back(nodes.back().spans[run].end_ms - nodes[0].spans[run].start_ms);
  return median(std::move(times));
}

double Profile::bound_ms(const NodeProfile& node) const {
  if (copy_bytes_per_s <= 0) return 0;
  const double memory_s = static_cast<double>(node.bytes) / copy_bytes_per_s;
  const double math_s = peak_flops_per_s > 0 ? static_cast<double>(node.flops) / peak_flops_per_s : 0;
  return 1e3 * std::max(memory_s, math_s);
}

double peak_flops_per_s(const DeviceInfo& device, double clock_hz, Math math) {
  // Dense fp16 with float32 accumulation, per clock and multiprocessor.
  const double flops_per_clock = device.cc_major == 9                           ? 4096
                                 : device.cc_major == 8 && device.cc_minor == 0 ? 2048
                                                                                : 0;
  return flops_per_clock * device.num_sms * clock_hz / (math == Math::fp32 ? 3 : 1);
}

NodeProfile describe_work(const Graph& graph, const Node& node, const std::string& path) {
  NodeProfile work{.name = node.name, .kind = node.kind, .path = path, .shape = node.outputs[0].shape};
  for (auto input = node.inputs.begin(); input != node.inputs.end(); ++input) {
    if (std::find(node.inputs.begin(), input, *input) != input) continue;  // one tensor read in two ways
    const TensorType& type = graph.type(*input);
    work.bytes += num_bytes(type.shape, type.dtype);
  }
  for (const TensorType& type : node.outputs) work.bytes += num_bytes(type.shape, type.dtype);
  if (const auto flops = node_def(node.kind).flops) work.flops = flops(node, input_types(graph, node));
  return work;
}

}  // namespace solder

#pragma once
// A model's config.pbtxt: what it says for solder, and whether it fits the graph.

#include <solder/solder.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace solder_triton {

/// An input or output as a config has it. Where requests are batched, `dims` are those behind the batch.
struct Port {
  std::string name, data_type;  ///< "TYPE_FP32"
  solder::Shape dims;
  bool operator==(const Port&) const = default;
};

struct ModelConfig {
  int64_t max_batch = 0;  ///< rows that a batch of requests has at most; 0: each request is a run of its own
  std::vector<Port> inputs, outputs;
  bool has_dynamic_batching = false;
  // Of its `parameters`, all of them strings.
  solder::CompileOptions compile;  ///< math, workspace_bytes, threads, capture
  std::vector<int64_t> batches;    ///< ascending; by default the powers of two up to max_batch, and that
  std::map<std::string, solder::Shape>
      shapes;  ///< shape.NAME: 1,3,224,224; of inputs that the file leaves open
};

/// Of the config as JSON. Error(invalid_argument) on what is none, and on a parameter that is unknown or has no meaning,
/// with what it takes.
ModelConfig read_config(std::string_view json);

/// What a config for `graph` must say. Error(shape_mismatch) where requests are batched and the first extents of inputs
/// and outputs are not one and the same.
void fill_ports(const solder::Graph& graph, ModelConfig* config);

/// Error(invalid_argument) that lists all of `config`'s ports which are not the graph's. Outputs may be left out.
void check_ports(const solder::Graph& graph, const ModelConfig& config);

/// The fields that Triton takes when it completes a config.
std::string completed_json(const ModelConfig& config);

}  // namespace solder_triton

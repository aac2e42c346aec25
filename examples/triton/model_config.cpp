#include "model_config.h"

#include <algorithm>

#include "../solder_run/text_line.h"

namespace solder_triton {
namespace {

using solder::DType;
using solder::Shape;
using solder::str;

std::string value_of(const JsonPaths& config, const std::string& path, const std::string& fallback = "") {
  const auto found = config.find(path);
  return found == config.end() ? fallback : found->second;
}

int64_t number(const std::string& name, const std::string& text, int64_t least, int64_t most) {
  int64_t value = 0;
  SOLDER_REQUIRE(solder_run::parse_number(text, &value) && value >= least && value <= most, invalid_argument,
                 name, " takes a whole number from ", least, " to ", most, ", not ",
                 solder_run::in_quotes(text));
  return value;
}

std::vector<Port> read_ports(const JsonPaths& config, const std::string& list) {
  std::vector<Port> ports(static_cast<size_t>(number(list, value_of(config, list + "#", "0"), 0, INT32_MAX)));
  for (size_t i = 0; i < ports.size(); ++i) {
    const std::string path = str(list, "[", i, "]."), reshaped = path + "reshape.shape";
    const std::string dims = config.contains(reshaped + "#") ? reshaped : path + "dims";
    ports[i] = {value_of(config, path + "name"), value_of(config, path + "data_type"), {}};
    for (int64_t d = 0; d < number(dims, value_of(config, dims + "#", "0"), 0, INT32_MAX); ++d)
      ports[i].dims.push_back(number(dims, value_of(config, str(dims, "[", d, "]")), -1, INT64_MAX));
  }
  return ports;
}

void set_parameter(const std::string& name, const std::string& text, ModelConfig* config) {
  constexpr std::string_view kShape = "shape.";
  const auto wrong = [&](const char* takes) {
    SOLDER_REQUIRE(false, invalid_argument, "parameter ", name, " takes ", takes, ", not ",
                   solder_run::in_quotes(text));
  };
  if (name == "math") {
    const auto math = solder::math_named(text);
    if (!math) wrong(solder::kMathNames);
    config->compile.math = *math;
  } else if (name == "workspace_bytes") {
    config->compile.workspace_bytes = number("parameter " + name, text, 0, INT64_MAX);
  } else if (name == "threads") {
    config->compile.threads = static_cast<int>(number("parameter " + name, text, 0, 1024));
  } else if (name == "capture") {
    config->compile.capture = number("parameter " + name, text, 0, 1) == 1;
  } else if (name == "batches") {
    if (!solder_run::parse_numbers(text, &config->batches)) wrong("sizes of batches, as in 1,4,16");
  } else if (name.starts_with(kShape)) {
    if (!solder_run::parse_shape(text, &config->shapes[name.substr(kShape.size())]))
      wrong("extents, as in 1,3,224,224");
  } else {
    SOLDER_REQUIRE(false, invalid_argument, "there is no parameter ", solder_run::in_quotes(name),
                   "; there are math, workspace_bytes, threads, capture, batches and shape.INPUT");
  }
}

void set_batches(ModelConfig* config) {
  std::vector<int64_t>& batches = config->batches;
  if (config->max_batch == 0) {
    SOLDER_REQUIRE(batches.empty(), invalid_argument, "parameter batches is given, but max_batch_size is 0");
    return;
  }
  if (batches.empty()) {
    for (int64_t n = 1; n < config->max_batch; n *= 2) batches.push_back(n);
    batches.push_back(config->max_batch);
  }
  std::sort(batches.begin(), batches.end());
  batches.erase(std::unique(batches.begin(), batches.end()), batches.end());
  SOLDER_REQUIRE(batches.front() >= 1 && batches.back() <= config->max_batch, invalid_argument,
                 "parameter batches must be from 1 to max_batch_size, ", config->max_batch);
}

constexpr int64_t kNotBatched = -1;

Port port_of(const std::string& name, const solder::TensorType& type, int64_t batch) {
  Port port{name,
            type.dtype == DType::float32   ? "TYPE_FP32"
            : type.dtype == DType::float16 ? "TYPE_FP16"
                                           : "TYPE_BF16",
            type.shape};
  if (batch == kNotBatched) return port;
  SOLDER_REQUIRE(!type.shape.empty() && type.shape[0] == batch, shape_mismatch,
                 "max_batch_size over 0 says that the first extent of every input and output is the batch, ",
                 batch, " in the first input, but ", solder_run::in_quotes(name), " is ", to_string(type),
                 "; max_batch_size: 0 runs each request by itself");
  port.dims.erase(port.dims.begin());
  return port;
}

std::string to_string(const Port& port) { return port.data_type + " " + to_string(port.dims); }

void compare(const char* what, const std::vector<Port>& given, const std::vector<Port>& wanted,
             bool needs_all, std::string* faults) {
  const auto named = [](const std::string& name) {
    return [&name](const Port& port) { return port.name == name; };
  };
  for (const Port& port : given) {
    const auto found = std::find_if(wanted.begin(), wanted.end(), named(port.name));
    if (found == wanted.end())
      *faults += str("; it has no ", what, " ", solder_run::in_quotes(port.name));
    else if (port != *found)
      *faults += str("; ", what, " ", solder_run::in_quotes(port.name), " is ", to_string(*found), ", not ",
                     to_string(port));
  }
  for (const Port& port : wanted)
    if (needs_all && std::none_of(given.begin(), given.end(), named(port.name)))
      *faults +=
          str("; ", what, " ", solder_run::in_quotes(port.name), ", ", to_string(port), ", is missing");
}

std::string to_json(const std::vector<Port>& ports) {
  std::string list;
  for (const Port& port : ports) {
    std::string dims;
    for (const int64_t extent : port.dims) dims += str(dims.empty() ? "" : ",", extent);
    // Triton's dims are never empty.
    list += str(list.empty() ? "" : ",", R"({"name":)", json_string(port.name), R"(,"data_type":")",
                port.data_type, R"(","dims":[)", dims.empty() ? "1" : dims, "]",
                dims.empty() ? R"(,"reshape":{"shape":[]})" : "", "}");
  }
  return "[" + list + "]";
}

}  // namespace

ModelConfig read_config(const JsonPaths& json) {
  ModelConfig config;
  config.max_batch = number("max_batch_size", value_of(json, "max_batch_size", "0"), 0, INT32_MAX);
  config.inputs = read_ports(json, "input");
  config.outputs = read_ports(json, "output");
  for (const auto& [path, text] : json) {
    constexpr std::string_view kBegin = "parameters.", kEnd = ".string_value";
    config.has_dynamic_batching |= path.starts_with("dynamic_batching.");
    if (path.starts_with(kBegin) && path.ends_with(kEnd))
      set_parameter(path.substr(kBegin.size(), path.size() - kBegin.size() - kEnd.size()), text, &config);
  }
  set_batches(&config);
  return config;
}

void fill_ports(const solder::Graph& graph, ModelConfig* config) {
  int64_t batch = kNotBatched;
  config->inputs.clear();
  config->outputs.clear();
  for (const solder::Node& node : graph.nodes()) {
    if (node.kind != solder::NodeKind::input) continue;
    const Shape& shape = node.outputs[0].shape;
    if (config->max_batch > 0 && config->inputs.empty()) batch = shape.empty() ? 0 : shape[0];
    config->inputs.push_back(port_of(node.name, node.outputs[0], batch));
  }
  for (const auto& [name, value] : graph.outputs())
    config->outputs.push_back(port_of(name, graph.type(value), batch));
}

void check_ports(const solder::Graph& graph, const ModelConfig& config) {
  ModelConfig wanted = config;
  fill_ports(graph, &wanted);
  std::string faults;
  compare("input", config.inputs, wanted.inputs, true, &faults);
  compare("output", config.outputs, wanted.outputs, false, &faults);
  SOLDER_REQUIRE(faults.empty(), invalid_argument, "the config does not fit the graph", faults);
}

std::string completed_json(const ModelConfig& config) {
  return str(R"({"max_batch_size":)", config.max_batch, R"(,"input":)", to_json(config.inputs),
             R"(,"output":)", to_json(config.outputs),
             config.has_dynamic_batching ? R"(,"dynamic_batching":{})" : "", "}");
}

}  // namespace solder_triton

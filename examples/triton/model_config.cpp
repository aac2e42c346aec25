#include "model_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "../solder_run/text_line.h"

namespace solder_triton {
namespace {

using json = nlohmann::ordered_json;
using solder::DType;
using solder::Shape;
using solder::str;

// Numbers may be strings, as protocol buffers write those of 64 bits.
std::string text_of(const json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

int64_t number(const std::string& name, const std::string& text, int64_t least, int64_t most) {
  int64_t value = 0;
  SOLDER_REQUIRE(solder_run::parse_number(text, &value) && value >= least && value <= most, invalid_argument,
                 name, " takes a whole number from ", least, " to ", most, ", not ",
                 solder_run::in_quotes(text));
  return value;
}

std::vector<Port> read_ports(const json& config, const char* list) {
  std::vector<Port> ports;
  for (const json& port : config.value(list, json::array())) {
    const json& dims = port.contains("reshape") ? port["reshape"].at("shape") : port.at("dims");
    ports.push_back({port.at("name"), port.at("data_type"), {}});
    for (const json& extent : dims)
      ports.back().dims.push_back(number("dims", text_of(extent), -1, INT64_MAX));
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

json to_json(const std::vector<Port>& ports) {
  json list = json::array();
  for (const Port& port : ports) {
    json entry{{"name", port.name}, {"data_type", port.data_type}, {"dims", port.dims}};
    if (port.dims.empty()) entry["dims"] = {1}, entry["reshape"] = {{"shape", json::array()}};  // never empty
    list.push_back(std::move(entry));
  }
  return list;
}

}  // namespace

ModelConfig read_config(std::string_view text) try {
  const json given = json::parse(text);
  ModelConfig config;
  config.max_batch = number("max_batch_size", text_of(given.value("max_batch_size", json(0))), 0, INT32_MAX);
  config.inputs = read_ports(given, "input");
  config.outputs = read_ports(given, "output");
  config.has_dynamic_batching = given.contains("dynamic_batching");
  const json parameters = given.value("parameters", json::object());
  for (const auto& [name, value] : parameters.items()) set_parameter(name, value.at("string_value"), &config);
  set_batches(&config);
  return config;
} catch (const json::exception& error) {
  solder::fail(solder::ErrorKind::invalid_argument,
               str("a config that is no JSON of Triton's: ", error.what()));
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
  json completed{{"max_batch_size", config.max_batch},
                 {"input", to_json(config.inputs)},
                 {"output", to_json(config.outputs)}};
  if (config.has_dynamic_batching) completed["dynamic_batching"] = json::object();
  return completed.dump();
}

}  // namespace solder_triton

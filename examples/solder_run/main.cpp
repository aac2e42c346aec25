// solder-run: a graph by name or from a text file, run, timed and drawn. `solder-run --help` says the rest.
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>

#include "options.h"
#include "pictures.h"
#include "report.h"
#include "text_graph.h"

namespace {

using namespace solder_run;
using solder::Graph;
using solder::Node;
using solder::NodeKind;
using solder::str;
using solder::Tensor;
using solder::TensorMap;

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(std::istreambuf_iterator<char>(file), {});
  SOLDER_REQUIRE(file.good() || file.eof(), io, path, ": ", std::strerror(errno),
                 "; it is no built-in graph either (--list)");
  return text;
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  SOLDER_REQUIRE(file.good(), io, path, ": ", std::strerror(errno));
}

// The text of the graph called `name` on the command line.
std::string graph_text(const std::string& name) {
  for (size_t i = 0; i < kNumBuiltIns; ++i)
    if (name == kBuiltIns[i].name) return kBuiltIns[i].text;
  return read_file(name);
}

// Uniform in [-range, range), from splitmix64.
Tensor random_tensor(const solder::TensorType& type, uint64_t seed, float range) {
  Tensor tensor = Tensor::empty(type.shape);
  for (float& value : tensor.floats()) {
    uint64_t z = seed += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    value = range * (static_cast<float>((z ^ (z >> 31)) >> 40) * 0x1p-23f - 1.0f);
  }
  return type.dtype == solder::DType::float32 ? tensor : tensor.to(type.dtype);
}

// How far random weights reach: 1 / sqrt(terms of a sum), as PyTorch initialises layers; 0.1 for a bias.
float weight_range(const solder::Shape& shape) {
  if (shape.size() < 2) return 0.1f;
  const int64_t terms = solder::num_elements({shape.begin() + 1, shape.end()});
  return 1.0f / std::sqrt(static_cast<float>(std::max<int64_t>(terms, 1)));
}

std::vector<const Node*> nodes_of(const Graph& graph, NodeKind kind) {
  std::vector<const Node*> nodes;
  for (const Node& node : graph.nodes())
    if (node.kind == kind) nodes.push_back(&node);
  return nodes;
}

TensorMap weights_of(const Graph& graph, const Options& options, const Progress& progress) {
  if (!options.weights.empty()) {
    std::vector<std::string> skipped;
    return solder::load_safetensors(options.weights, &skipped);
  }
  TensorMap weights;
  uint64_t stream = 1000;
  for (const Node* node : nodes_of(graph, NodeKind::parameter))
    weights[node->name] = random_tensor(node->outputs[0], options.seed + (++stream << 32),
                                        weight_range(node->outputs[0].shape));
  if (!weights.empty()) progress.say(str("weights: random, as a fresh layer has them, seed ", options.seed));
  return weights;
}

// A name that --input or --output left out is that of the only one.
std::map<std::string, std::string> named(std::map<std::string, std::string> files, const char* what,
                                         const std::vector<std::string>& names) {
  const auto unnamed = files.find("");
  if (unnamed == files.end()) return files;
  if (names.size() != 1)
    throw UsageError{str("the graph has ", names.size(), " ", what, "s: give --", what, " NAME=FILE")};
  const std::string file = unnamed->second;
  files.erase(unnamed);
  files[names[0]] = file;
  return files;
}

TensorMap inputs_of(const Graph& graph, const Options& options, const Progress& progress) {
  std::vector<std::string> names;
  for (const Node* node : nodes_of(graph, NodeKind::input)) names.push_back(node->name);
  TensorMap inputs;
  for (const auto& [name, file] : named(options.inputs, "input", names))
    inputs[name] = solder::load_npy(file);
  uint64_t stream = 0;
  for (const Node* node : nodes_of(graph, NodeKind::input)) {
    ++stream;
    if (inputs.count(node->name)) continue;
    inputs[node->name] = random_tensor(node->outputs[0], options.seed + (stream << 32), 1.0f);
    progress.say(str(node->name, ": random, uniform in [-1, 1), seed ", options.seed));
  }
  return inputs;
}

void draw(const Graph& written, const solder::Model& model, const Options& options) {
  const std::string title =
      str(options.graph, " on ", to_string(model.device()), ", ", to_string(options.compile.math));
  if (!options.graph_picture.empty()) {
    const std::string dot = graph_dot(written, model, title);
    if (options.graph_picture.rfind(".svg") == options.graph_picture.size() - 4)
      render_svg(dot, options.graph_picture);
    else
      write_file(options.graph_picture, dot);
    std::cout << "wrote " << options.graph_picture << "\n";
  }
  if (!options.memory_picture.empty()) {
    write_file(options.memory_picture, memory_svg(model, title));
    std::cout << "wrote " << options.memory_picture << "\n";
  }
}

void time_runs(solder::Session& session, int iters, Progress& progress) {
  std::vector<double> times_ms;
  for (int i = 0; i < iters; ++i) {
    progress.step(i, iters);
    const double start_ms = progress.now_ms();
    session.execute();
    session.synchronize();
    times_ms.push_back(progress.now_ms() - start_ms);
  }
  std::sort(times_ms.begin(), times_ms.end());
  progress.end();
  std::cout << str("time: median ", times_ms[times_ms.size() / 2], " ms of ", iters, " runs (",
                   times_ms.front(), " to ", times_ms.back(), "), launch to finish\n");
}

int run(const Options& options) {
  Progress progress;
  const Graph graph = parse_graph(graph_text(options.graph), options.graph, options.shapes);
  solder::CompileOptions compile_options = options.compile;
  compile_options.device = find_device(options.device);

  progress.begin("weights");
  const TensorMap weights = weights_of(graph, options, progress);
  progress.begin("compile");
  const solder::Model model = solder::compile(graph, weights, compile_options);
  progress.end();
  if (options.describe) std::cout << "as written:\n" << dump(graph) << "as run: " << model.describe();
  draw(graph, model, options);
  if (options.no_run) return 0;

  std::vector<std::string> output_names;
  for (const auto& [name, value] : graph.outputs()) output_names.push_back(name);
  const auto output_files = named(options.outputs, "output", output_names);
  for (const auto& [name, file] : output_files)
    if (std::find(output_names.begin(), output_names.end(), name) == output_names.end())
      throw UsageError{"the graph has no output \"" + name + "\""};

  progress.begin("inputs");
  const TensorMap inputs = inputs_of(graph, options, progress);
  progress.begin("session");
  solder::Session session = model.session();
  progress.begin("run");
  const TensorMap outputs = session.run(inputs);
  progress.begin("outputs");
  for (const std::string& name : output_names) progress.say(summary(name, outputs.at(name)));
  for (const auto& [name, file] : output_files) {
    solder::save_npy(file, outputs.at(name));
    progress.say("wrote " + file);
  }
  progress.end();

  const int iters = options.iters.value_or(model.device().is_cuda() ? 20 : 3);
  const bool profiled = options.profile || !options.trace.empty();
  if (options.iters || profiled) {
    progress.begin("timed run");
    time_runs(session, iters, progress);
  }
  if (profiled) {
    progress.begin("profile");
    const double profile_start_ms = progress.now_ms();
    const solder::Profile profile = session.profile(iters);
    progress.end();
    if (options.profile) std::cout << profile_table(profile);
    if (!options.trace.empty()) {
      write_file(options.trace,
                 chrome_trace(options.graph, model.device(), progress.spans(), profile, profile_start_ms));
      std::cout << "wrote " << options.trace << "\n";
    }
  }
  return 0;
}

int act(const Options& options) {
  switch (options.action) {
    case Options::Action::help: std::cout << kUsage; return 0;
    case Options::Action::help_graph: std::cout << grammar(); return 0;
    case Options::Action::list:
      for (size_t i = 0; i < kNumBuiltIns; ++i)
        std::cout << "  " << std::string(kBuiltIns[i].name).append(10, ' ').substr(0, 10) << kBuiltIns[i].what
                  << "\n";
      return 0;
    case Options::Action::show: std::cout << graph_text(options.graph); return 0;
    case Options::Action::run: return run(options);
  }
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const int status = act(parse_options(argc, argv));
    if (!std::cout.flush()) {
      std::cerr << "solder-run: stdout cannot be written\n";
      return 1;
    }
    return status;
  } catch (const UsageError& error) {
    std::cerr << "solder-run: " << error.message << "; solder-run --help lists what there is\n";
    return 2;
  } catch (const solder::Error& error) {
    std::cerr << "solder-run: " << error.what() << "\n";
  } catch (const std::bad_alloc&) {
    std::cerr << "solder-run: out of memory\n";
  }
  return 1;
}

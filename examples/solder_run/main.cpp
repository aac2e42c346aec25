// solder-run: a graph by name or from a text file, run, timed and drawn. `solder-run --help` says the rest.
#include <algorithm>
#include <exception>
#include <iostream>

#include "../device_option.h"
#include "built_ins.h"
#include "files.h"
#include "options.h"
#include "pictures.h"
#include "report.h"
#include "tensors.h"
#include "text_graph.h"

namespace {

using namespace solder_run;
using solder::Graph;
using solder::str;
using solder::TensorMap;

// The text of the graph called `name` on the command line, which is a built-in or a file.
std::string graph_text(const std::string& name) {
  for (size_t i = 0; i < kNumBuiltIns; ++i)
    if (name == kBuiltIns[i].name) return kBuiltIns[i].text;
  return read_text(
      name, str("; it is no built-in graph either", did_you_mean(name, built_in_names()), " (--list)"));
}

// A graph, and its weights where the file has them.
struct Loaded {
  Graph graph;
  std::optional<TensorMap> weights;
  std::vector<std::string> notes;
};

// With the names of options for those of the library's.
Loaded import(const std::string& name, const Options& options) try {
  solder::OnnxNet net = solder::import_onnx(name, onnx_options(options));
  Loaded loaded{std::move(net.graph), std::move(net.weights), {}};
  for (const auto& [output, known] : net.integers)
    loaded.notes.push_back(
        str(printable(output), ": integers ", to_string(known.shape), ", known without a run"));
  return loaded;
} catch (const solder::Error& error) {
  std::string message = error.message();
  for (const auto& [theirs, ours] :
       {std::pair("shapes: ", "--shape: "), {"values: ", "--value: "}, {"integers: ", "--value: "}})
    if (message.starts_with(theirs)) message.replace(0, std::string_view(theirs).size(), ours);
  solder::fail(error.kind(), message);
}

Loaded graph_called(const std::string& name, const Options& options) {
  if (is_onnx(name)) return import(name, options);
  const BuiltInNetwork* network = find_network(name);
  return {network != nullptr ? build(*network, options.shapes)
                             : parse_graph(graph_text(name), name, options.shapes),
          {},
          {}};
}

TensorMap weights_of(Loaded& loaded, const Options& options, const Progress& progress) {
  return loaded.weights && options.weights.empty() ? std::move(*loaded.weights)
                                                   : weights_of(loaded.graph, options, progress);
}

void save_weights(const std::string& file, const TensorMap& weights, const GraphText& text) {
  TensorMap renamed;
  for (const auto& [theirs, ours] : text.parameters) renamed[ours] = weights.at(theirs);
  solder::save_safetensors(file, renamed);
}

// What a person wrote as it was written, and other graphs as text.
int show(const Options& options) {
  Progress progress("# ");
  const bool is_text = !is_onnx(options.graph) && find_network(options.graph) == nullptr;
  const bool is_as_written = is_text && options.shapes.empty();
  if (is_as_written && options.saved_weights.empty()) {
    std::cout << graph_text(options.graph);
    return 0;
  }
  Loaded loaded = graph_called(options.graph, options);
  const GraphText text = text_of_graph(loaded.graph);
  for (const std::string& note : loaded.notes) progress.say(note);
  std::cout << (is_as_written ? graph_text(options.graph) : text.text);
  progress.begin("weights");
  if (!options.saved_weights.empty())
    save_weights(options.saved_weights, weights_of(loaded, options, progress), text);
  progress.end();
  return 0;
}

void list_built_ins() {
  const auto list = [](const auto& built_in) {
    std::cout << "  " << std::string(built_in.name).append(19, ' ').substr(0, 19) << built_in.what << "\n";
  };
  std::for_each(kBuiltIns, kBuiltIns + kNumBuiltIns, list);
  std::for_each(kNetworks, kNetworks + kNumNetworks, list);
}

void draw(const Graph& written, const solder::Model& model, const Options& options) {
  const std::string title =
      str(options.graph, " on ", to_string(model.device()), ", ", to_string(options.compile.math));
  if (!options.graph_picture.empty()) {
    const std::string dot = graph_dot(written, model, title);
    if (options.graph_picture.ends_with(".svg"))
      render_svg(dot, options.graph_picture);
    else
      write_text(options.graph_picture, dot);
    std::cout << "wrote " << options.graph_picture << "\n";
  }
  if (!options.memory_picture.empty()) {
    write_text(options.memory_picture, memory_svg(model, title));
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
  // What a file holds is said even where it cannot run.
  if (options.describe && is_onnx(options.graph))
    std::cout << solder::describe_onnx(options.graph) << std::flush;
  Loaded loaded = graph_called(options.graph, options);
  for (const std::string& note : loaded.notes) std::cout << note << "\n";
  const Graph& graph = loaded.graph;
  if (options.describe) std::cout << "as written:\n" << dump(graph) << std::flush;
  std::vector<std::string> output_names;
  for (const auto& [name, value] : graph.outputs()) output_names.push_back(name);
  const auto output_files = named(options.outputs, "--output", output_names);
  solder::CompileOptions compile_options = options.compile;
  const auto device = find_device(options.device);
  if (!device) throw UsageError{str("--device takes ", kDeviceNames, ", not ", in_quotes(options.device))};
  compile_options.device = *device;

  progress.begin("weights");
  const TensorMap weights = weights_of(loaded, options, progress);
  if (!options.saved_weights.empty()) {
    save_weights(options.saved_weights, weights, text_of_graph(graph));
    progress.say("wrote " + options.saved_weights);
  }
  progress.begin("inputs");
  const TensorMap inputs = options.no_run ? TensorMap() : inputs_of(graph, options, progress);
  progress.begin("compile");
  compile_options.progress = [&](int done, int of) { progress.step(done, of); };
  const solder::Model model = solder::compile(graph, weights, compile_options);
  progress.end();
  if (options.describe) std::cout << "as run: " << model.describe();
  draw(graph, model, options);
  if (options.no_run) return 0;

  const int iters = options.iters.value_or(model.device().is_cuda() ? 20 : 3);
  const bool is_profiled = options.profile || !options.trace.empty();
  const bool is_timed = options.iters || is_profiled;
  const std::string warning =
      long_run_warning(model, 1 + (is_timed ? iters : 0) + (is_profiled ? iters + 1 : 0));
  if (!warning.empty()) std::cerr << warning << std::endl;
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

  if (is_timed) {
    progress.begin("timed run");
    time_runs(session, iters, progress);
  }
  if (is_profiled) {
    progress.begin("profile");
    const double profile_start_ms = progress.now_ms();
    const solder::Profile profile = session.profile(iters);
    progress.end();
    if (options.profile) std::cout << profile_table(profile);
    if (!options.trace.empty()) {
      write_text(options.trace,
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
    case Options::Action::version: std::cout << "solder " << solder::version() << "\n"; return 0;
    case Options::Action::list: list_built_ins(); return 0;
    case Options::Action::show: return show(options);
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
  } catch (const std::exception& error) {  // the standard library's own: no memory, for one
    std::cerr << "solder-run: " << error.what() << "\n";
  }
  return 1;
}

#include "options.h"

#include <filesystem>
#include <functional>
#include <set>
#include <string_view>

namespace solder_run {

const char* const kUsage = R"(solder-run GRAPH [OPTION...]: compiles a graph, runs it, and shows how.

GRAPH is a built-in graph (--list), a text file (--help-graph) or an ONNX file, NAME.onnx, which has its weights.
Without files the inputs and weights are random.

  --input NAME=F.npy        reads an input; just F.npy where there is one input
  --weights F.safetensors   reads the parameters by name; once for each file of a checkpoint in several
  --strip-prefix P          takes P off the names in those files
  --output NAME=F.npy       writes an output; just F.npy where there is one
  --shape NAME=1,3,224,224  gives an input another shape than the graph says
  --override-fixed          even where an ONNX file fixes it
  --value NAME=1,-1 | F.npy makes an input of an ONNX file a constant: axes, sizes
  --seed N                  of the random numbers (1)

  --device D                cpu, cuda, cuda:N or best: a GPU where there is one (best)
  --math M                  fp32, tf32, fp16 or bf16: how the graph may compute (fp32)
  --workspace BYTES         scratch memory a session may take, as 64M or 1G too (256M)
  --no-fuse                 runs every node by itself

  --iters N                 times N runs (with --profile or --trace: 20 on a GPU, 3 on the CPU)
  --profile                 a table of time, GB/s, TFLOP/s, share and percent of the bound for every node; nodes that
                            do the same are one line, as in layer1.*.conv2 x3, with the sum of their times; of large
                            networks also the kinds, and the ten lines with the most time beyond their bound
  --trace F.json            a timeline of this program and of every run, for https://ui.perfetto.dev
  --graph F.dot | F.svg     draws the graph before and after fusion (an .svg needs Graphviz's `dot`)
  --memory F.svg            draws the memory plan: offsets over time
  --describe                prints what runs, how in full, and where every value lives
  --no-run                  stops after compiling and drawing

  --list                    the built-in graphs
  --show                    prints GRAPH as text
  --save-weights F.safetensors   writes the weights, under the names that --show prints
  --help, --help-graph      this text; the text format of graphs
  --version                 of the library, and what it was built with

Percent of bound: the bound of a node is the larger of two times. Memory: every tensor it takes read once and every
tensor it makes written once, at the rate of a device copy measured in the same run. Arithmetic: its multiply-adds at
the dense 16-bit tensor-core rate of the card's highest clock, which solder's convolutions use: one product a term
with tf32, three with fp32. GB/s and TFLOP/s count the same bytes and multiply-adds (times two). On the CPU, and for
arithmetic on GPUs other than A100 and H100, there is no such figure.

Several GPUs: a process each, of which Open MPI says the number on its machine,
  mpirun -np 2 sh -c 'solder-run GRAPH --device cuda:$OMPI_COMM_WORLD_LOCAL_RANK'

Exit status: 0 done, 1 something failed (stderr says what), 2 a command line that cannot be understood.
)";

namespace {

int64_t parse_bytes(const std::string& option, std::string_view text) {
  int shift = 0;
  if (text.ends_with("K")) shift = 10;
  if (text.ends_with("M")) shift = 20;
  if (text.ends_with("G")) shift = 30;
  if (shift > 0) text.remove_suffix(1);
  int64_t value = 0;
  if (!parse_number(text, &value) || value < 0 || value > (int64_t{1} << 62 >> shift))
    throw UsageError{option + " takes a number of bytes, as in 1000000, 64M or 1G"};
  return value << shift;
}

int64_t parse_count(const std::string& option, const std::string& text, int64_t least, int64_t most) {
  int64_t value = 0;
  if (!parse_number(text, &value) || value < least || value > most)
    throw UsageError{
        solder::str(option, " takes a whole number from ", least, " to ", most, ", not \"", text, "\"")};
  return value;
}

std::string with_end(const std::string& option, const std::string& value,
                     std::initializer_list<const char*> ends) {
  std::string wanted;
  for (const char* end : ends) {
    if (value.ends_with(end)) return value;
    wanted += (wanted.empty() ? "" : " or ") + std::string(end);
  }
  throw UsageError{option + " takes a file name that ends in " + wanted + ", not \"" + value + "\""};
}

// "NAME=FILE" or "FILE".
void add_file(const std::string& option, const std::string& value,
              std::map<std::string, std::string>* files) {
  const size_t equals = value.find('=');
  const std::string name = equals == std::string::npos ? "" : value.substr(0, equals);
  const std::string file = with_end(option, value.substr(equals + 1), {".npy"});
  if (!files->emplace(name, file).second) throw UsageError{option + " names " + in_quotes(name) + " twice"};
}

// "NAME=1,3,224,224".
void add_shape(const std::string& option, const std::string& value, ShapeOverrides* shapes) {
  const size_t equals = value.find('=');
  solder::Shape shape;
  if (equals == std::string::npos || !parse_shape(value.substr(equals + 1), &shape))
    throw UsageError{option + " takes NAME=EXTENTS, as in x=1,3,224,224"};
  const std::string name = value.substr(0, equals);
  if (!shapes->emplace(name, shape).second) throw UsageError{option + " names " + in_quotes(name) + " twice"};
}

void check(const Options& options) {
  const bool needs_graph = options.action == Options::Action::run || options.action == Options::Action::show;
  if (needs_graph && options.graph.empty()) throw UsageError{"no graph is given"};
  const bool is_run = options.profile || options.iters || !options.trace.empty() || !options.inputs.empty() ||
                      !options.outputs.empty();
  const bool is_compiled =
      is_run || options.describe || !options.graph_picture.empty() || !options.memory_picture.empty();
  if (options.no_run && is_run)
    throw UsageError{"--no-run leaves no inputs, outputs, times, profile or trace"};
  if (options.action == Options::Action::show && is_compiled)
    throw UsageError{"--show leaves nothing to describe, draw, run or time"};
  if (needs_graph && !is_onnx(options.graph) && (options.override_fixed || !options.values.empty()))
    throw UsageError{"--value and --override-fixed are for ONNX files"};
  if (options.weights.empty() && !options.strip_prefix.empty())
    throw UsageError{"--strip-prefix needs --weights, whose names it changes"};
  std::set<std::filesystem::path> written;
  const auto write = [&](const std::string& file) {
    if (!file.empty() && !written.insert(std::filesystem::path(file).lexically_normal()).second)
      throw UsageError{file + " would be written twice"};
  };
  write(options.graph_picture);
  write(options.memory_picture);
  write(options.saved_weights);
  for (const auto& [name, file] : options.outputs) write(file);
}

}  // namespace

bool is_onnx(const std::string& graph) { return graph.ends_with(".onnx"); }

Options parse_options(int argc, const char* const* argv) {
  Options options;
  using Value = const std::string&;
  // What each option does with its value ...
  const std::map<std::string, std::function<void(const std::string&, Value)>> with_value = {
      {"--input", [&](auto& o, Value v) { add_file(o, v, &options.inputs); }},
      {"--output", [&](auto& o, Value v) { add_file(o, v, &options.outputs); }},
      {"--weights", [&](auto& o, Value v) { options.weights.push_back(with_end(o, v, {".safetensors"})); }},
      {"--strip-prefix", [&](auto&, Value v) { options.strip_prefix = v; }},
      {"--shape", [&](auto& o, Value v) { add_shape(o, v, &options.shapes); }},
      {"--value",
       [&](auto& o, Value v) {
         const size_t equals = v.find('=');
         if (equals == std::string::npos) throw UsageError{o + " takes NAME=NUMBERS or NAME=FILE.npy"};
         if (!options.values.emplace(v.substr(0, equals), v.substr(equals + 1)).second)
           throw UsageError{o + " names " + in_quotes(v.substr(0, equals)) + " twice"};
       }},
      {"--save-weights", [&](auto& o, Value v) { options.saved_weights = with_end(o, v, {".safetensors"}); }},
      {"--seed",
       [&](auto& o, Value v) { options.seed = static_cast<uint64_t>(parse_count(o, v, 0, INT64_MAX)); }},
      {"--device", [&](auto&, Value v) { options.device = v; }},
      {"--math",
       [&](auto& o, Value v) {
         const auto math = solder::math_named(v);
         if (!math) throw UsageError{o + " takes " + solder::kMathNames};
         options.compile.math = *math;
       }},
      {"--workspace", [&](auto& o, Value v) { options.compile.workspace_bytes = parse_bytes(o, v); }},
      {"--iters",
       [&](auto& o, Value v) { options.iters = static_cast<int>(parse_count(o, v, 1, 1000000000)); }},
      {"--trace", [&](auto& o, Value v) { options.trace = with_end(o, v, {".json"}); }},
      {"--graph",
       [&](auto& o, Value v) {
         options.graph_picture = with_end(o, v, {".dot", ".svg"});
       }},
      {"--memory", [&](auto& o, Value v) { options.memory_picture = with_end(o, v, {".svg"}); }},
  };
  const auto act = [&](Options::Action action) {
    return [&options, action] {
      if (options.action != Options::Action::run && options.action != action)
        throw UsageError{"one of --list, --show, --version, --help and --help-graph at a time"};
      options.action = action;
    };
  };
  // ... and without one.
  const std::map<std::string, std::function<void()>> without_value = {
      {"--override-fixed", [&] { options.override_fixed = true; }},
      {"--no-fuse", [&] { options.compile.fuse = false; }},
      {"--profile", [&] { options.profile = true; }},
      {"--describe", [&] { options.describe = true; }},
      {"--no-run", [&] { options.no_run = true; }},
      {"--list", act(Options::Action::list)},
      {"--show", act(Options::Action::show)},
      {"--version", act(Options::Action::version)},
      {"--help-graph", act(Options::Action::help_graph)},
      {"--help", act(Options::Action::help)},
      {"-h", act(Options::Action::help)},
  };
  std::vector<std::string> names;
  for (const auto& [name, act] : with_value) names.push_back(name);
  for (const auto& [name, act] : without_value) names.push_back(name);
  const std::set<std::string> repeatable{"--input", "--output", "--weights", "--shape", "--value"};
  std::set<std::string> seen;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const size_t equals = word.starts_with("--") ? word.find('=') : std::string::npos;  // --math=tf32
    const std::string option = word.substr(0, equals);
    const auto flag = without_value.find(option);
    const auto found = with_value.find(option);
    if (!word.starts_with("-")) {
      if (!options.graph.empty())
        throw UsageError{"one graph at a time: " + options.graph + " or " + word +
                         " (a file is given behind its option)"};
      options.graph = word;
    } else if (flag != without_value.end() && equals == std::string::npos) {
      flag->second();
    } else if (found != with_value.end()) {
      if (equals == std::string::npos && i + 1 == argc) throw UsageError{option + " needs a value"};
      if (!repeatable.contains(option) && !seen.insert(option).second)
        throw UsageError{option + " is given twice"};
      found->second(option, equals == std::string::npos ? argv[++i] : word.substr(equals + 1));
    } else {
      throw UsageError{"unknown option " + word + did_you_mean(option, names)};
    }
  }
  check(options);
  return options;
}

}  // namespace solder_run

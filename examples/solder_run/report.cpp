#include "report.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <map>
#include <tuple>

#include "text_line.h"

namespace solder_run {
namespace {

using solder::Graph;
using solder::NodeProfile;
using solder::str;

// `value` with three digits, or "-" where there is none.
std::string number(double value) {
  if (!(value > 0)) return "-";
  const int decimals = value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : value >= 0.1 ? 3 : 5;
  return str(std::fixed, std::setprecision(decimals), value);
}

// Multiply-adds (times two) a second of a convolution [1,64,32,32] x [64,64,3,3] on the CPU, at its second run.
double cpu_flops_per_s() {
  Graph graph;
  const auto x = graph.input("x", {1, 64, 32, 32}), w = graph.parameter("w", {64, 64, 3, 3});
  graph.output("y", graph.conv2d(x, w));
  const auto zeros = [](const solder::Shape& shape) {
    const solder::Tensor tensor = solder::Tensor::empty(shape);
    std::ranges::fill(tensor.floats(), 0.0f);
    return tensor;
  };
  const auto model =
      solder::compile(graph, {{"w", zeros({64, 64, 3, 3})}}, {.device = solder::Device::cpu()});
  solder::Session session = model.session();
  session.run({{"x", zeros({1, 64, 32, 32})}});
  const solder::Profile profile = session.profile(1);
  return 1e3 * static_cast<double>(profile.nodes[0].flops) / profile.total_ms();
}

std::string json_string(const std::string& text) {
  std::string result = "\"";
  for (const char c : printable(text)) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + '"';
}

// A line of the table: one node, or several that do the same.
struct ProfileRow {
  const NodeProfile* first = nullptr;
  std::vector<std::string> names;
  double ms = 0, bound_ms = 0;  // together
  int64_t bytes = 0, flops = 0;

  void add(double more_ms, double more_bound_ms, int64_t more_bytes, int64_t more_flops) {
    ms += more_ms;
    bound_ms += more_bound_ms;
    bytes += more_bytes;
    flops += more_flops;
  }
};

std::vector<std::string> parts_of(const std::string& name) {
  std::vector<std::string> parts;
  for (const std::string_view part : split(name, ".")) parts.emplace_back(part);
  return parts;
}

// Nodes of equal kind, result, path, bytes and flops stand together where the first of them is, if their names have
// equally many parts.
std::vector<ProfileRow> fold_repeats(const solder::Profile& profile) {
  std::vector<ProfileRow> rows;
  const auto key = [](const NodeProfile& n) {
    return std::tuple(n.kind, n.shape, n.bytes, n.flops, n.path, parts_of(n.name).size());
  };
  std::map<decltype(key(NodeProfile())), size_t> row_of;
  for (const NodeProfile& node : profile.nodes) {
    const auto [place, is_new] = row_of.try_emplace(key(node), rows.size());
    if (is_new) rows.push_back({.first = &node});
    ProfileRow& row = rows[place->second];
    row.names.push_back(node.name);
    row.add(node.median_ms(), profile.bound_ms(node), node.bytes, node.flops);
  }
  return rows;
}

// Columns one beside the other; a row of one cell is a heading.
std::string aligned(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths(rows[0].size());
  for (const auto& row : rows)
    for (size_t i = 0; row.size() > 1 && i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  solder::TextStream out;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      const bool is_text = i < 2 || i + 1 == row.size();
      const int width = i + 1 == row.size() ? 0 : static_cast<int>(widths[i]);
      out << (i ? "  " : "") << (is_text ? std::left : std::right) << std::setw(width) << row[i];
    }
    out << "\n";
  }
  return out.str();
}

// "bn" of "bn1" and "bn2", "" of "10" and "11": what both start with, without half a number.
void keep_common_start(std::string* text, const std::string& other) {
  text->resize(static_cast<size_t>(std::ranges::mismatch(*text, other).in1 - text->begin()));
  while (!text->empty() && text->back() >= '0' && text->back() <= '9') text->pop_back();
}

}  // namespace

std::string short_path(const std::string& path) {
  const size_t comma = path.find(", "), semicolon = path.find("; ");
  if (comma == std::string::npos || comma > semicolon) return path;
  return path.substr(0, comma) + (semicolon == std::string::npos ? "" : path.substr(semicolon));
}

std::string common_name(const std::vector<std::string>& names) {
  std::vector<std::string> common = parts_of(names[0]);
  std::vector<bool> differs(common.size());
  for (const std::string& name : names) {
    const std::vector<std::string> parts = parts_of(name);
    for (size_t i = 0; i < parts.size(); ++i) {
      if (!differs[i] && parts[i] == common[i]) continue;
      differs[i] = true;
      keep_common_start(&common[i], parts[i]);
    }
  }
  std::string result;
  for (size_t i = 0; i < common.size(); ++i)
    result += str(i > 0 ? "." : "", common[i], differs[i] ? "*" : "");
  return result;
}

std::string profile_table(const solder::Profile& profile) {
  const std::vector<ProfileRow> folded = fold_repeats(profile);
  ProfileRow all;
  std::map<std::string, ProfileRow> kinds;
  std::vector<const ProfileRow*> worst;
  for (const ProfileRow& row : folded) {
    ProfileRow& kind = kinds[to_string(row.first->kind)];
    kind.names.insert(kind.names.end(), row.names.begin(), row.names.end());
    for (ProfileRow* sum : {&kind, &all}) sum->add(row.ms, row.bound_ms, row.bytes, row.flops);
    if (row.bound_ms > 0 && row.ms > row.bound_ms) worst.push_back(&row);
  }
  std::vector<std::vector<std::string>> rows{
      {"node", "kind", "time us", "share %", "GB/s", "TFLOP/s", "bound us", "% of bound", "how"}};
  const auto add = [&](const ProfileRow& row, const std::string& name, const std::string& kind) {
    rows.push_back({name, kind, number(1e3 * row.ms), number(100 * row.ms / all.ms),
                    number(static_cast<double>(row.bytes) / row.ms * 1e-6),
                    number(static_cast<double>(row.flops) / row.ms * 1e-9), number(1e3 * row.bound_ms),
                    number(100 * row.bound_ms / row.ms),
                    row.first != nullptr ? short_path(row.first->path) : ""});
  };
  const auto add_nodes = [&](const ProfileRow& row) {
    const std::string times = row.names.size() > 1 ? str(" x", row.names.size()) : "";
    add(row, common_name(row.names) + times, to_string(row.first->kind));
  };
  for (const ProfileRow& row : folded) add_nodes(row);
  if (profile.nodes.size() > 1) add(all, "all", "");

  constexpr size_t kNumWorst = 10;
  if (folded.size() > kNumWorst) {
    rows.push_back({"by kind:"});
    for (const auto& [kind, row] : kinds) add(row, str("x", row.names.size()), kind);
    std::ranges::stable_sort(worst, std::greater(),
                             [](const ProfileRow* row) { return row->ms - row->bound_ms; });
    worst.resize(std::min(worst.size(), kNumWorst));
    if (!worst.empty()) rows.push_back({"the most time beyond their bound:"});
    for (const ProfileRow* row : worst) add_nodes(*row);
  }
  solder::TextStream out;
  out << aligned(rows);
  if (profile.copy_bytes_per_s > 0) {
    out << "bound: a device copy moves " << number(1e-9 * profile.copy_bytes_per_s)
        << " GB/s (measured now); ";
    if (profile.peak_flops_per_s > 0)
      out << "the tensor cores could do " << number(1e-12 * profile.peak_flops_per_s)
          << " TFLOP/s (see --help)\n";
    else
      out << "arithmetic is not counted on this GPU\n";
  }
  return out.str();
}

std::string summary(const std::string& name, const solder::Tensor& tensor) {
  solder::TextStream out;
  out << printable(name) << " " << to_string(tensor.dtype()) << " " << solder::to_string(tensor.shape());
  if (tensor.num_elems() == 0) return out.str() + ": empty";
  double sum = 0;
  float low = INFINITY, high = -INFINITY;
  int64_t num_finite = 0;
  const auto at = [&](int64_t i) { return load_as_float(tensor.data(), tensor.dtype(), i); };
  for (int64_t i = 0; i < tensor.num_elems(); ++i) {
    const float value = at(i);
    if (!std::isfinite(value)) continue;
    ++num_finite;
    sum += value;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  out << std::setprecision(6);
  if (num_finite > 0)
    out << ": min " << low << ", max " << high << ", mean " << sum / static_cast<double>(num_finite) << ";";
  else
    out << ":";
  for (int64_t i = 0; i < std::min<int64_t>(tensor.num_elems(), 4); ++i) out << " " << at(i);
  if (tensor.num_elems() > 4) out << " ...";
  if (num_finite < tensor.num_elems())
    out << "; " << tensor.num_elems() - num_finite << " of " << tensor.num_elems() << " are not finite";
  return out.str();
}

std::string long_run_warning(const solder::Model& model, int num_runs) {
  if (model.device().is_cuda()) return "";
  double flops = 0;
  for (const solder::Node& node : model.graph().nodes())
    flops += static_cast<double>(describe_work(model.graph(), node, "").flops);
  constexpr double kLongS = 10,
                   kFastestFlopsPerS = 1e11;  // of one core, so that small graphs cost no measurement
  if (flops * num_runs < kLongS * kFastestFlopsPerS / 100) return "";
  const double flops_per_s = cpu_flops_per_s(), expected_s = flops * num_runs / flops_per_s;
  if (expected_s < kLongS) return "";
  return str("this takes about ", number(expected_s), " s on the CPU: ", number(1e-9 * flops),
             " GFLOP a run, ", number(1e-9 * flops_per_s), " GFLOP/s, ", num_runs,
             num_runs > 1 ? " runs" : " run");
}

std::string chrome_trace(const std::string& graph, solder::Device device, const std::vector<HostSpan>& host,
                         const solder::Profile& profile, double profile_start_ms) {
  solder::TextStream out;
  out << std::fixed << std::setprecision(3);
  out << "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n";
  const auto meta = [&](const char* what, int track, const std::string& name) {
    out << "{\"name\": \"" << what << "\", \"ph\": \"M\", \"pid\": 1, \"tid\": " << track
        << ", \"args\": {\"name\": " << json_string(name) << "}}";
  };
  const auto span = [&](const std::string& name, const char* category, int track, double start_ms,
                        double end_ms) {
    out << ",\n{\"name\": " << json_string(name) << ", \"cat\": \"" << category
        << "\", \"ph\": \"X\", \"pid\": 1, \"tid\": " << track << ", \"ts\": " << 1e3 * start_ms
        << ", \"dur\": " << 1e3 * (end_ms - start_ms);
  };
  meta("process_name", 0, "solder-run " + graph);
  out << ",\n";
  meta("thread_name", 0, "host");
  out << ",\n";
  meta("thread_name", 1, str(to_string(device), " stream"));
  for (const HostSpan& phase : host) {
    span(phase.name, "host", 0, phase.start_ms, phase.end_ms);
    out << "}";
  }
  const size_t num_runs = profile.nodes.empty() ? 0 : profile.nodes[0].spans.size();
  for (size_t run = 0; run < num_runs; ++run) {
    for (const NodeProfile& node : profile.nodes) {
      span(node.name, to_string(node.kind), 1, profile_start_ms + node.spans[run].start_ms,
           profile_start_ms + node.spans[run].end_ms);
      out << ", \"args\": {\"run\": " << run << ", \"how\": " << json_string(node.path)
          << ", \"bytes\": " << node.bytes << ", \"flops\": " << node.flops << "}}";
    }
  }
  out << "\n]}\n";
  return out.str();
}

}  // namespace solder_run

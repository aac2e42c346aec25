#include "graph/require_weights.h"

#include <algorithm>
#include <string_view>
#include <unordered_set>

#include "runtime/check.h"
#include "runtime/text_reader.h"

namespace solder {
namespace {

constexpr size_t kMostListed = 20;

TensorType type_of(const Tensor& tensor) { return {tensor.shape(), tensor.dtype()}; }

// Letters that two names share at their ends: names of one layer in two dialects differ at the front ("model.conv1"),
// in the middle ("downsample.0", "shortcut.0") or at the back ("gamma").
size_t likeness(std::string_view a, std::string_view b) {
  const size_t front = std::ranges::mismatch(a, b).in1 - a.begin();
  a.remove_prefix(front);
  b.remove_prefix(front);
  size_t back = 0;
  while (back < std::min(a.size(), b.size()) && a[a.size() - 1 - back] == b[b.size() - 1 - back]) ++back;
  return front + back;
}

// The name most like `wanted`, with its type, as a clause; nothing where no name shares half of its letters.
std::string closest(const std::string& wanted, const std::vector<std::string>& names,
                    const TensorMap& weights) {
  const std::string* best = nullptr;
  size_t most = (wanted.size() + 1) / 2;
  for (const std::string& name : names) {
    const size_t letters = likeness(wanted, name);
    if (letters < most || (best != nullptr && letters == most)) continue;
    most = letters;
    best = &name;
  }
  if (best == nullptr) return {};
  return str("; closest is ", quote_name(*best), ", ", to_string(type_of(weights.find(*best)->second)));
}

// What stands in front of every missing name in `weights`; empty where there is no such thing.
std::string common_prefix(const std::vector<std::string>& missing, const std::vector<std::string>& surplus,
                          const TensorMap& weights) {
  constexpr int kMostTried = 4;
  int num_tried = 0;
  for (const std::string& name : surplus) {
    if (missing.empty() || !name.ends_with(missing[0])) continue;
    const std::string prefix = name.substr(0, name.size() - missing[0].size());
    if (std::ranges::all_of(missing,
                            [&](const std::string& each) { return weights.contains(prefix + each); }))
      return prefix;
    if (++num_tried == kMostTried) break;
  }
  return {};
}

std::string list_surplus(const std::vector<std::string>& surplus) {
  std::string text;
  for (size_t i = 0; i < std::min(surplus.size(), kMostListed); ++i)
    text += str(i == 0 ? "\n  given, and not asked for: " : ", ", quote_name(surplus[i]));
  if (surplus.size() > kMostListed) text += str(" and ", surplus.size() - kMostListed, " more");
  return text;
}

}  // namespace

void require_weights(const Graph& graph, const TensorMap& weights) {
  std::vector<const Node*> wrong;
  std::unordered_set<std::string_view> asked;
  std::vector<std::string> missing, surplus;  // in another dtype than solder takes is not missing
  ErrorKind kind = ErrorKind::shape_mismatch;
  for (const Node& node : graph.nodes()) {
    if (node.kind != NodeKind::parameter) continue;
    asked.insert(node.name);
    const auto found = weights.find(node.name);
    if (found != weights.end() && type_of(found->second) == node.outputs[0]) continue;
    wrong.push_back(&node);
    if (found != weights.end()) continue;
    kind = ErrorKind::invalid_argument;
    if (!weights.left_out.contains(node.name)) missing.push_back(node.name);
  }
  if (wrong.empty()) return;
  for (const auto& [name, tensor] : weights)
    if (!asked.contains(name)) surplus.push_back(name);

  std::string text = str("compile: of ", asked.size(), " weights ", wrong.size(), " cannot be used");
  for (size_t i = 0; i < std::min(wrong.size(), kMostListed); ++i) {
    const std::string& name = wrong[i]->name;
    const std::string declared = to_string(wrong[i]->outputs[0]);
    if (const auto found = weights.find(name); found != weights.end())
      text += str("\n  weight ", quote_name(name), " is ", to_string(type_of(found->second)),
                  "; the graph declares ", declared);
    else if (weights.left_out.contains(name))
      text += str("\n  weight ", weights.why_missing(name), "; the graph declares it as ", declared);
    else
      text += str("\n  no weight ", quote_name(name), " was given; the graph declares it as ", declared,
                  closest(name, surplus, weights));
  }
  if (wrong.size() > kMostListed) text += str("\n  and ", wrong.size() - kMostListed, " more");
  text += weights.empty() ? "\n  no weights were given at all" : list_surplus(surplus);
  if (const std::string prefix = common_prefix(missing, surplus, weights); !prefix.empty())
    text += str("\n  all that is missing is there behind ", quote_name(prefix),
                ": load_safetensors(path, {.strip_prefix = ", quote_name(prefix), "})");
  fail(kind, text);
}

}  // namespace solder

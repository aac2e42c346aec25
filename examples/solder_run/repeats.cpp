#include "repeats.h"

#include <algorithm>
#include <set>

namespace solder_run {
namespace {

using solder::Graph;
using solder::Node;
using solder::Value;

constexpr size_t kMostLength = 64, kLeastSaved = 3;

// The start of two names that differ in one part, up to that part, of the first name: "layer1.1" of "layer1.1.conv2"
// and "layer1.2.conv2". Empty where they do not, or differ in their first part.
std::string block_of(const std::string& name, const std::string& next) {
  const auto differ = std::ranges::mismatch(name, next).in1;
  const size_t dot = name.find_last_of("./", static_cast<size_t>(differ - name.begin()));
  if (differ == name.end() || dot == std::string::npos) return {};
  return name.substr(0, name.find_first_of("./", dot + 1));
}

class Finder {
 public:
  Finder(const Graph& graph, const std::vector<solder::NodePlan>& plans)
      : graph_(graph), plans_(plans), place_(graph.nodes().size()) {
    for (size_t i = 0; i < graph.nodes().size(); ++i) {
      place_[i] = order_.size();
      if (!graph.nodes()[i].is_given()) order_.push_back(i);
    }
    last_reader_.assign(order_.size(), 0);
    for (size_t at = 0; at < order_.size(); ++at)
      for (const Value& input : node(at).inputs)
        if (!source(input).is_given()) last_reader_[place(input)] = at;
    for (const auto& [name, value] : graph.outputs())
      if (!source(value).is_given()) last_reader_[place(value)] = order_.size();
  }

  std::vector<Repeat> find() const {
    std::vector<Repeat> repeats;
    for (size_t at = 0; at < order_.size();) {
      Repeat best = longest_at(at);
      at = best.times == 0 ? at + 1 : place_[best.nodes.back()] + 1;
      if (best.times > 0) repeats.push_back(std::move(best));
    }
    return repeats;
  }

 private:
  const Node& node(size_t at) const { return graph_.nodes()[order_[at]]; }
  const Node& source(Value value) const { return graph_.nodes()[static_cast<size_t>(value.node)]; }
  size_t place(Value value) const { return place_[static_cast<size_t>(value.node)]; }

  bool same(size_t at, size_t length) const {
    const Node &a = node(at), &b = node(at + length);
    if (a.kind != b.kind || a.outputs != b.outputs || a.attributes != b.attributes ||
        a.epilogue != b.epilogue || a.inputs.size() != b.inputs.size())
      return false;
    if (!plans_.empty() && plans_[order_[at]].path != plans_[order_[at + length]].path) return false;
    for (size_t i = 0; i < a.inputs.size(); ++i) {
      const Value x = a.inputs[i], y = b.inputs[i];
      if (graph_.type(x) != graph_.type(y) || x.output != y.output) return false;
      if (source(x).is_given() || source(y).is_given()) {  // weights differ; an input must be the same one
        if (source(x).kind != source(y).kind) return false;
        if (source(x).kind == solder::NodeKind::input && x != y) return false;
      } else if (place(x) + length != place(y)) {
        return false;
      }
    }
    return true;
  }

  Repeat longest_at(size_t at) const {
    Repeat best;
    size_t saved = kLeastSaved - 1;
    for (size_t length = 1; length <= std::min(kMostLength, (order_.size() - at) / 2); ++length) {
      size_t num_same = 0;
      while (at + num_same + length < order_.size() && same(at + num_same, length)) ++num_same;
      if (num_same / length * length <= saved) continue;
      const size_t first = best_start(at, length, num_same % length), times = num_same / length + 1;
      if (!ends_in_last(first, length, times)) continue;
      saved = num_same / length * length;
      best = {.length = length, .times = times, .what = names_of(first, length, times)};
      for (size_t i = 0; i < length * times; ++i) best.nodes.push_back(order_[first + i]);
    }
    return best;
  }

  // Where blocks begin by their names: the start, up to `slack` places on, with fewest of them in one time.
  size_t best_start(size_t at, size_t length, size_t slack) const {
    size_t best = at, fewest = SIZE_MAX;
    for (size_t first = at; first <= at + slack; ++first) {
      std::set<std::string> blocks;
      for (size_t i = first; i < first + length; ++i)
        blocks.insert(block_of(node(i).name, node(i + length).name));
      if (blocks.size() < fewest) fewest = blocks.size(), best = first;
    }
    return best;
  }

  bool ends_in_last(size_t first, size_t length, size_t times) const {
    const size_t last = first + length * (times - 1);
    return std::all_of(last_reader_.begin() + static_cast<std::ptrdiff_t>(first),
                       last_reader_.begin() + static_cast<std::ptrdiff_t>(last),
                       [&](size_t reader) { return reader < last + length; });
  }

  std::string names_of(size_t first, size_t length, size_t times) const {
    const size_t last = first + length * (times - 1);
    for (size_t i = 0; i < length; ++i) {
      const std::string from = block_of(node(first + i).name, node(last + i).name);
      if (!from.empty())
        return solder::str(from, " to ", block_of(node(last + i).name, node(first + i).name));
    }
    return {};
  }

  const Graph& graph_;
  const std::vector<solder::NodePlan>& plans_;
  std::vector<size_t> order_;        // of the nodes that run
  std::vector<size_t> place_;        // in order_, by node
  std::vector<size_t> last_reader_;  // by place; behind all where a value is given out
};

}  // namespace

std::vector<Repeat> find_repeats(const Graph& graph, const std::vector<solder::NodePlan>& plans) {
  return Finder(graph, plans).find();
}

}  // namespace solder_run

#include "graph/value_view.h"

#include <algorithm>
#include <map>
#include <optional>

#include "graph/nodes/node_def.h"
#include "runtime/check.h"
#include "runtime/divide.h"

namespace solder {
namespace {

// Decides what is computed in a concat's result, from the last concat to the first: one may be part of another.
class Placer {
 public:
  explicit Placer(const Graph& graph)
      : graph_(graph),
        plain_(value_views(graph)),
        placed_(graph.nodes().size()),
        readers_(placed_.size()),
        last_readers_(placed_.size()),
        asked_(placed_.size()) {
    for (size_t i = 0; i < placed_.size(); ++i) {
      const Node& reader = graph.nodes()[i];
      placed_[i].resize(reader.outputs.size());
      readers_[i].resize(reader.outputs.size());
      asked_[i].resize(reader.outputs.size());
      for (size_t input = 0; input < reader.inputs.size(); ++input)
        at(readers_, reader.inputs[input]).push_back({static_cast<int>(i), input});
    }
    for (const auto& [name, value] : graph.outputs()) at(readers_, value).push_back({-1, 0});
    for (int i = static_cast<int>(placed_.size()); i-- > 0;)
      for (int output = 0; output < static_cast<int>(node(i).outputs.size()); ++output)
        last_readers_[static_cast<size_t>(i)].push_back(last_readers({i, output}));
  }

  ValueViews run() {
    for (int i = static_cast<int>(graph_.nodes().size()); i-- > 0;)
      if (node(i).kind == NodeKind::concat) place_parts(i);
    ValueViews views;
    for (size_t i = 0; i < placed_.size(); ++i) {
      append_views(graph_.nodes()[i], &views);
      for (size_t output = 0; output < placed_[i].size(); ++output)
        if (placed_[i][output]) views[i][output] = *placed_[i][output];
    }
    return views;
  }

 private:
  struct Reader {
    int node;  // -1: an output of the graph
    size_t input;
  };

  const Node& node(int i) const { return graph_.nodes()[static_cast<size_t>(i)]; }

  void place_parts(int concat) {
    const Node& joined = node(concat);
    const auto axis = static_cast<size_t>(std::get<ConcatAttributes>(joined.attributes).axis);
    const Value result{concat, 0};
    const ValueView whole = at(placed_, result) ? *at(placed_, result) : at(plain_, result);
    if (num_elements(whole.view.shape) == 0 || whole.view.shape.size() > kMaxDims) return;
    std::vector<ValueView> parts;
    int64_t start = 0;
    for (const Value& input : joined.inputs) {
      ValueView part = whole;
      part.offset_elems += start * whole.view.strides[axis];
      part.view.shape = graph_.type(input).shape;
      start += part.view.shape[axis];
      if (can_place(input, part)) at(placed_, input) = part;
      parts.push_back(std::move(part));
    }
    place_an_owner(concat, whole, parts);
  }

  bool can_place(Value value, const ValueView& part) {
    const Node& maker = node(value.node);
    const NodeDef& def = node_def(maker.kind);
    if (def.view != nullptr || maker.is_given() || !allows(def.stores, part.view) || at(placed_, value))
      return false;
    // Pixels of 16-bit tensors begin at 16 bytes.
    const bool has_pixels = maker.layout == Layout::padded_channels_last;
    if (has_pixels && part.offset_elems % kPitchElems != 0) return false;
    // The next concat that joins the value mostly asks the same of all its readers.
    auto& [strides, is_taken] = at(asked_, value);
    if (strides != part.view.strides) strides = part.view.strides, is_taken = readers_take(value, part.view);
    return is_taken;
  }

  // Whether all that reads the value, by itself or through views, can read it as it would lie.
  bool readers_take(Value value, const TensorView& view) const {
    std::vector<std::pair<Value, TensorView>> shown{{value, view}};
    while (!shown.empty()) {
      const auto [from, as] = std::move(shown.back());
      shown.pop_back();
      for (const Reader& reader : at(readers_, from)) {
        if (reader.node < 0) return false;
        const Node& by = node(reader.node);
        TensorView seen;
        int64_t offset = 0;
        if (const auto view_of = node_def(by.kind).view) {
          if (!view_of(by, as, &seen, &offset)) return false;
          shown.push_back({{reader.node, 0}, std::move(seen)});
        } else if (!takes(by, reader.input, as) || by.outputs[0].shape.size() > kMaxDims) {
          return false;  // a kernel might have to count more axes
        }
      }
    }
    return true;
  }

  // Where an input is a view of a tensor at the very place that it has in the result: that tensor, computed in the
  // result. What else is written there must wait until the tensor's last reader is done.
  void place_an_owner(int concat, const ValueView& whole, const std::vector<ValueView>& parts) {
    const std::vector<Value>& inputs = node(concat).inputs;
    std::map<std::pair<int, int>, int> num_views;  // by owner: how many inputs are views of it, or it itself
    int first_write = concat;
    for (const Value& input : inputs) {
      const Value owner = at(plain_, input).base;
      ++num_views[{owner.node, owner.output}];
      if (!at(placed_, input)) continue;
      if (node(input.node).kind == NodeKind::concat) return;  // written from when its first part is
      first_write = std::min(first_write, input.node);
    }
    for (size_t i = 0; i < inputs.size(); ++i) {
      const ValueView& mine = at(plain_, inputs[i]);
      const Value owner = mine.base;
      if (at(placed_, inputs[i]) || graph_.type(owner) != graph_.type({concat, 0}) ||
          mine.view.strides != at(plain_, {concat, 0}).view.strides ||
          mine.offset_elems != parts[i].offset_elems - whole.offset_elems)
        continue;
      if (num_views.at({owner.node, owner.output}) > 1) continue;  // a copy within the result
      if (!can_place(owner, whole) || std::max(last_read(owner, concat), owner.node) >= first_write) continue;
      at(placed_, owner) = whole;
      return;
    }
  }

  // The last two nodes that read the value, by itself or through views; -1: none.
  std::pair<int, int> last_readers(Value value) const {
    std::pair<int, int> last{-1, -1};
    const auto count = [&](int reader) {
      if (reader > last.first)
        last = {reader, last.first};
      else if (reader < last.first)
        last.second = std::max(last.second, reader);
    };
    for (const Reader& reader : at(readers_, value)) {
      const bool is_view = reader.node >= 0 && node_def(node(reader.node).kind).view != nullptr;
      if (!is_view) {
        count(reader.node);
        continue;
      }
      const auto [by, before] = at(last_readers_, {reader.node, 0});
      count(by), count(before);
    }
    return last;
  }

  // The last node but `concat` that reads the value, by itself or through views.
  int last_read(Value value, int concat) const {
    const auto [last, before] = at(last_readers_, value);
    return last == concat ? before : last;
  }

  const Graph& graph_;
  const ValueViews plain_;
  std::vector<std::vector<std::optional<ValueView>>> placed_;   // by node and output
  std::vector<std::vector<std::vector<Reader>>> readers_;       // likewise
  std::vector<std::vector<std::pair<int, int>>> last_readers_;  // likewise
  std::vector<std::vector<std::pair<Shape, bool>>> asked_;  // likewise: readers_take() of the last strides
};

}  // namespace

TensorView own_view(const TensorType& type, Layout layout) {
  if (layout == Layout::nchw) return dense_view(nullptr, type.dtype, type.shape);
  const int64_t c = type.shape[1], h = type.shape[2], w = type.shape[3];
  const bool is_padded = layout == Layout::padded_channels_last && type.dtype != DType::float32;
  const int64_t pitch = is_padded ? round_up(c, kPitchElems) : c;
  num_bytes({type.shape[0], h, w, pitch}, type.dtype);  // refuses what is too large
  return pixels_view(type.dtype, type.shape, pitch);
}

int64_t own_bytes(const TensorView& view) {
  int64_t elems = num_elements(view.shape);
  for (size_t axis = 0; axis < view.shape.size() && elems > 0; ++axis)
    elems = std::max(elems, view.shape[axis] * view.strides[axis]);
  return elems * size_of(view.dtype);
}

bool append_views(const Node& node, ValueViews* views, bool expects_copy) {
  const int index = static_cast<int>(views->size());
  std::vector<ValueView> mine;
  const auto view = node_def(node.kind).view;
  bool is_view = view != nullptr;
  if (is_view) {
    const ValueView& input = at(*views, node.inputs[0]);
    ValueView result{input.base, 0, {}};
    is_view = view(node, input.view, &result.view, &result.offset_elems);
    if (!is_view && !expects_copy) return false;
    result.offset_elems += input.offset_elems;
    if (is_view) mine.push_back(std::move(result));
  }
  for (const TensorType& type : is_view ? std::span<const TensorType>() : std::span(node.outputs))
    mine.push_back({{index, static_cast<int>(mine.size())}, 0, own_view(type, node.layout)});
  views->push_back(std::move(mine));
  return true;
}

ValueViews value_views(const Graph& graph, bool expects_copies) {
  ValueViews views;
  views.reserve(graph.nodes().size());
  for (const Node& node : graph.nodes())
    SOLDER_REQUIRE(append_views(node, &views, expects_copies), invalid_argument, node.name,
                   ": a view that strides cannot say; add_copies() comes first");
  return views;
}

ValueViews placed_value_views(const Graph& graph) {
  const auto is_concat = [](const Node& node) { return node.kind == NodeKind::concat; };
  if (std::ranges::none_of(graph.nodes(), is_concat)) return value_views(graph);
  return Placer(graph).run();
}

}  // namespace solder

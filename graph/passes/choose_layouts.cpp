#include <algorithm>

#include "graph/nodes/node_def.h"
#include "graph/passes/passes.h"
#include "graph/value_view.h"
#include "ops/conv/nhwc/nhwc.h"

namespace solder {
namespace {

// By node: whether the layout of its results is free, and whether convolutions read them and nothing else does.
struct Freedom {
  explicit Freedom(const Graph& graph)
      : is_free(graph.nodes().size()), is_read(is_free.size()), has_other_readers(is_free.size()) {
    for (size_t i = 0; i < is_free.size(); ++i) {
      const Node& node = graph.nodes()[i];
      is_free[i] = can_choose(node);
      for (size_t input = 0; input < node.inputs.size(); ++input) {
        const auto maker = static_cast<size_t>(node.inputs[input].node);
        is_read[maker] = true;
        if (node.kind != NodeKind::conv2d || input != 0 || is_stem_of(graph, node))
          has_other_readers[maker] = true;
      }
    }
    for (const auto& [name, value] : graph.outputs()) is_free[static_cast<size_t>(value.node)] = false;
  }

  // Whether the convolution has too few input channels to be worth reading them side by side.
  static bool is_stem_of(const Graph& graph, const Node& conv) {
    const Shape& w = graph.type(conv.inputs[1]).shape;
    const auto& options = std::get<Conv2dAttributes>(conv.attributes);
    return is_stem({.C = w[1],
                    .R = w[2],
                    .S = w[3],
                    .groups = options.groups,
                    .stride_h = options.stride.h,
                    .stride_w = options.stride.w,
                    .dil_h = options.dilation.h,
                    .dil_w = options.dilation.w});
  }

  static bool can_choose(const Node& node) {
    const NodeDef& def = node_def(node.kind);
    const auto is_narrow_image = [](const TensorType& type) {
      return type.shape.size() == 4 && type.dtype != DType::float32;
    };
    return def.view == nullptr && !node.is_given() && std::ranges::all_of(node.outputs, is_narrow_image) &&
           allows(def.stores, own_view(node.outputs[0], Layout::padded_channels_last));
  }

  std::vector<bool> is_free, is_read, has_other_readers;
};

// Whether it matters that channels are innermost, and they are.
bool has_pixels(const TensorView& view) {
  return has_channels_innermost(view) && view.shape[2] * view.shape[3] > 1;
}

}  // namespace

Graph choose_layouts(const Graph& graph) {
  const Freedom freedom(graph);
  Graph result;
  ValueViews views;
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    Node node = graph.nodes()[i];
    const auto lies_so = [&](const Value& input) { return has_pixels(at(views, input).view); };
    const bool is_for_convolutions = freedom.is_read[i] && !freedom.has_other_readers[i];
    if (freedom.is_free[i] &&
        (node.kind == NodeKind::conv2d || is_for_convolutions || std::ranges::any_of(node.inputs, lies_so)))
      node.layout = Layout::padded_channels_last;
    append_views(node, &views, true);
    result.append(std::move(node));
  }
  for (const auto& [name, value] : graph.outputs()) result.append_output(name, {value.node, value.output});
  return result;
}

}  // namespace solder

#pragma once

#include <string>
#include <unordered_set>

#include "graph/graph.h"
#include "runtime/tensor_map.h"

namespace solder {

/// The tensors of a graph's parameters, by name: those that were given, and those that passes made of them.
class Constants {
 public:
  Constants(const Graph& graph, const TensorMap& given) : given_(given) {
    for (const Node& node : graph.nodes())
      if (node.is_given()) names_.insert(node.name);
  }

  /// Error(invalid_argument) where there is none.
  const Tensor& at(const std::string& name) const {
    const auto made = made_.find(name);
    return made != made_.end() ? made->second : given_.at(name);
  }

  /// Under `name`, or one like it that no input or parameter has: which one is returned.
  std::string add(std::string name, Tensor tensor) {
    while (!names_.insert(name).second) name += "'";
    made_[name] = std::move(tensor);
    return name;
  }

 private:
  std::unordered_set<std::string> names_;
  const TensorMap& given_;
  TensorMap made_;
};

}  // namespace solder

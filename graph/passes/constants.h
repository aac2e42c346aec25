#pragma once

#include <string>
#include <unordered_map>
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
  std::string add(const std::string& name, Tensor tensor) {
    std::string mine = name;
    if (!names_.insert(mine).second) {
      int64_t& number = last_numbers_[name];
      do mine = name + "'" + std::to_string(++number);
      while (!names_.insert(mine).second);
    }
    made_[mine] = std::move(tensor);
    return mine;
  }

  /// The same, as a parameter at the end of `graph`.
  Value append_to(Graph& graph, const std::string& name, Tensor tensor) {
    const TensorType type{tensor.shape(), tensor.dtype()};
    return graph.append(
        {.kind = NodeKind::parameter, .name = add(name, std::move(tensor)), .outputs = {type}});
  }

 private:
  std::unordered_set<std::string> names_;
  std::unordered_map<std::string, int64_t> last_numbers_;  // by name that was there already
  const TensorMap& given_;
  TensorMap made_;
};

}  // namespace solder

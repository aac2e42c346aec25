#pragma once

#include <map>
#include <string>
#include <utility>

#include "runtime/tensor.h"
#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

/// Named tensors: weights, inputs, results. A std::map whose at() and merge() throw solder::Error, and whose
/// temporaries, such as run() returns, give nothing that refers into them.
class TensorMap : public std::map<std::string, Tensor> {
 public:
  using map::map;

  /// Error(invalid_argument) where there is no `name`, with why_missing().
  const Tensor& at(const std::string& name) const&;
  Tensor& at(const std::string& name) & { return const_cast<Tensor&>(std::as_const(*this).at(name)); }
  Tensor at(const std::string& name) && { return std::move(at(name)); }

  Tensor& operator[](const std::string& name) & { return map::operator[](name); }
  iterator begin() & { return map::begin(); }
  const_iterator begin() const& { return map::begin(); }
  iterator begin() && = delete;
  iterator find(const std::string& name) & { return map::find(name); }
  const_iterator find(const std::string& name) const& { return map::find(name); }
  iterator find(const std::string& name) && = delete;

  /// Adds all of `other`, the next file of a checkpoint. Error(invalid_argument) that lists the names given
  /// twice; nothing is added then.
  void merge(TensorMap other);

  /// Takes `prefix` off every name that starts with it. Error(invalid_argument) where none does (of an empty map, and
  /// with an empty prefix, nothing is asked), and where names then meet, which it lists; nothing is changed then.
  void strip_prefix(const std::string& prefix);

  /// Why at(name) throws, as a clause: the file has it in another dtype, or other names, which are listed.
  std::string why_missing(const std::string& name) const;

  /// What the file has beside these, by name: the dtype, as the file spells it, that solder does not take.
  std::map<std::string, std::string> left_out;
};

}  // namespace solder

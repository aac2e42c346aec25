#pragma once
// The graphs that solder-run knows by name: short ones as texts, whole networks as programs build them.

#include <solder/solder.h>

#include <string>
#include <vector>

#include "text_graph.h"

namespace solder_run {

struct BuiltIn {
  const char* name;
  const char* what;  ///< one line
  const char* text;
};
extern const BuiltIn kBuiltIns[];
extern const size_t kNumBuiltIns;

struct BuiltInNetwork {
  const char* name;
  const char* what;    ///< one line
  const char* source;  ///< the example that builds it
  int64_t image_size;  ///< its input is x [1,3,image_size,image_size], unless a shape is given
  solder::Graph (*build)(const solder::Shape& images, solder::DType dtype);
};
extern const BuiltInNetwork kNetworks[];
extern const size_t kNumNetworks;

/// Null where no network has that name.
const BuiltInNetwork* find_network(const std::string& name);

/// The network on images of the shape that `shapes` has for x. Error(invalid_argument) for a shape of anything else.
solder::Graph build(const BuiltInNetwork& network, const ShapeOverrides& shapes);

/// Of texts and networks.
std::vector<std::string> built_in_names();

}  // namespace solder_run

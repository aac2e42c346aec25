#pragma once
// Graphs written as text: a page of grammar, one node a line.

#include <solder/solder.h>

#include <map>
#include <string>
#include <string_view>

namespace solder_run {

/// The grammar with every elementwise function, for --help-graph and people.
std::string grammar();

/// Shapes that replace those a text declares, by name of the input.
using ShapeOverrides = std::map<std::string, solder::Shape>;

/// The graph that `text` describes. Throws Error(io) on a line that breaks the grammar, and what the graph
/// builder throws for one that makes no sense; both start with "`file`:line:". Texts over 1 MiB, 10,000 lines
/// of nodes or names over 200 bytes are refused.
solder::Graph parse_graph(std::string_view text, const std::string& file, const ShapeOverrides& shapes = {});

/// "1,3,224,224" as a shape; false when it is not one. "scalar" is rank 0.
bool parse_shape(std::string_view text, solder::Shape* shape);

/// A whole number or a float, all of `text`; false when it is not one.
bool parse_number(std::string_view text, int64_t* value);
bool parse_number(std::string_view text, float* value);

/// The graphs that solder-run knows by name.
struct BuiltIn {
  const char* name;
  const char* what;  ///< one line
  const char* text;
};
extern const BuiltIn kBuiltIns[];
extern const size_t kNumBuiltIns;

}  // namespace solder_run

#pragma once
// Graphs written as text: a page of grammar, one node a line.

#include <solder/solder.h>

#include <map>
#include <string>
#include <string_view>

#include "text_line.h"

namespace solder_run {

/// The grammar with every elementwise function, for --help-graph and people.
std::string grammar();

/// Shapes that replace those a text declares, by name of the input.
using ShapeOverrides = std::map<std::string, solder::Shape>;

/// The graph that `text` describes. Throws Error(invalid_argument) on a line that breaks the grammar, and what
/// the graph builder throws for one that makes no sense; all start with "`file`:line: ", or with "`file`: "
/// where it is no line's fault. Line ends may be Unix's, Windows' or old Macs'; a UTF-8 byte order mark is
/// skipped. Texts over 1 MiB, 10,000 lines of nodes or names over 200 bytes are refused.
solder::Graph parse_graph(std::string_view text, const std::string& file, const ShapeOverrides& shapes = {});

/// A graph before any pass as text, a node a line: parse_graph() makes the same nodes of it, which compute the same
/// bits. Names that a text cannot have, or that several nodes have, are changed in it.
struct GraphText {
  std::string text;
  std::map<std::string, std::string> parameters;  ///< the graph's names -> the text's
};
GraphText text_of_graph(const solder::Graph& graph);

}  // namespace solder_run

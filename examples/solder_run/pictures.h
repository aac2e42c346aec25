#pragma once
// Pictures of a compiled model: graphs in Graphviz's language, the memory plan as an SVG.

#include <solder/solder.h>

#include <string>

namespace solder_run {

/// "3.2 GiB", "1.5 KiB", "12 B".
std::string human_bytes(int64_t bytes);

/// `written` and the model made of it, side by side, in Graphviz's language. What runs as one launch is drawn
/// in one box; edges carry the shapes of tensors in memory.
std::string graph_dot(const solder::Graph& written, const solder::Model& model, const std::string& title);

/// `dot`'s text drawn as an SVG file by the program `dot`. Throws Error(unsupported) saying what to install
/// when that is not there, Error(io) when it fails.
void render_svg(const std::string& dot, const std::string& path);

/// A session's arena over time: a column for every node that runs, a box for every value from the node that
/// makes it to its last reader, at its offset.
std::string memory_svg(const solder::Model& model, const std::string& title);

}  // namespace solder_run

#pragma once
// Reading the conformance tables: tests/data/conformance, or the folder in SOLDER_CONFORMANCE_DIR.

#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "graph/solder.h"
#include "ops/conv/conv.h"

namespace solder::test {

/// One row, by column name.
using CsvRow = std::map<std::string, std::string>;

inline std::vector<CsvRow> read_conformance(const std::string& file) {
  const char* folder = std::getenv("SOLDER_CONFORMANCE_DIR");
  const std::string path = (folder != nullptr ? folder : SOLDER_TEST_DATA "/conformance") + ("/" + file);
  std::ifstream in(path);
  if (!in) throw std::runtime_error("cannot read " + path);
  const auto split = [](const std::string& line) {
    std::vector<std::string> cells;
    std::istringstream stream(line);
    for (std::string cell; std::getline(stream, cell, ',');) cells.push_back(cell);
    return cells;
  };
  std::string line;
  std::getline(in, line);
  const std::vector<std::string> columns = split(line);
  std::vector<CsvRow> rows;
  while (std::getline(in, line)) {
    const std::vector<std::string> cells = split(line);
    CsvRow row;
    for (size_t i = 0; i < columns.size() && i < cells.size(); ++i) row[columns[i]] = cells[i];
    rows.push_back(std::move(row));
  }
  if (rows.empty()) throw std::runtime_error(path + " has no rows");
  return rows;
}

/// The convolution of a conv_int.csv or conv_shapes.csv row; the two name their padding columns differently.
inline ConvShape conv_shape(const CsvRow& row) {
  const auto number = [&](const char* column) { return std::stoll(row.at(column)); };
  const bool integers = row.count("pad_top") == 1;
  return {.N = number("n"),
          .C = number("c"),
          .H = number("h"),
          .W = number("w"),
          .K = number("k"),
          .R = number("r"),
          .S = number("s"),
          .groups = number("groups"),
          .stride_h = number("stride_h"),
          .stride_w = number("stride_w"),
          .dil_h = number("dil_h"),
          .dil_w = number("dil_w"),
          .pad_top = number(integers ? "pad_top" : "pad_h"),
          .pad_left = number(integers ? "pad_left" : "pad_w"),
          .pad_bottom = number(integers ? "pad_bottom" : "pad_h_end"),
          .pad_right = number(integers ? "pad_right" : "pad_w_end")};
}

inline Conv2dOptions conv_options(const ConvShape& s) {
  return {.stride = {s.stride_h, s.stride_w},
          .padding = {s.pad_top, s.pad_left, s.pad_bottom, s.pad_right},
          .dilation = {s.dil_h, s.dil_w},
          .groups = s.groups};
}

/// A graph "y" = conv2d(x, w) or conv2d(x, w, b) of this geometry.
inline Graph conv_graph(const ConvShape& s, bool bias) {
  Graph g;
  const Value x = g.input("x", {s.N, s.C, s.H, s.W}), w = g.parameter("w", {s.K, s.C / s.groups, s.R, s.S});
  g.output("y",
           bias ? g.conv2d(x, w, g.parameter("b", {s.K}), conv_options(s)) : g.conv2d(x, w, conv_options(s)));
  return g;
}

}  // namespace solder::test

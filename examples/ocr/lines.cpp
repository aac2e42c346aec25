#include "lines.h"

#include <algorithm>
#include <cmath>
#include <span>

namespace ocr {
namespace {

constexpr float kLikely = 0.3f;
constexpr double kLikelyInside = 0.5;  // on average
constexpr int64_t kLeastExtent = 3;    // smaller ones are dirt
constexpr double kWidening = 1.6;      // of area / perimeter: the map marks the inner part of a line alone

struct Map {
  int64_t height, width;
  std::span<const float> likely;
  std::vector<bool> seen;

  bool takes(int64_t y, int64_t x) const {
    const auto at = static_cast<size_t>(y * width + x);
    return likely[at] > kLikely && !seen[at];
  }
};

struct Blob {
  Box box;
  double sum = 0;
  int64_t num_pixels = 0;
};

// All pixels connected with this one, which are seen then.
Blob blob_at(Map& map, int64_t y, int64_t x) {
  Blob blob{.box = {x, y, x + 1, y + 1}};
  std::vector<std::pair<int64_t, int64_t>> open{{y, x}};
  map.seen[static_cast<size_t>(y * map.width + x)] = true;
  while (!open.empty()) {
    const auto [row, column] = open.back();
    open.pop_back();
    blob.sum += map.likely[static_cast<size_t>(row * map.width + column)];
    ++blob.num_pixels;
    blob.box = {std::min(blob.box.left, column), std::min(blob.box.top, row),
                std::max(blob.box.right, column + 1), std::max(blob.box.bottom, row + 1)};
    for (int64_t i = std::max<int64_t>(row - 1, 0); i < std::min(row + 2, map.height); ++i)
      for (int64_t j = std::max<int64_t>(column - 1, 0); j < std::min(column + 2, map.width); ++j)
        if (map.takes(i, j)) {
          map.seen[static_cast<size_t>(i * map.width + j)] = true;
          open.emplace_back(i, j);
        }
  }
  return blob;
}

Box widened(const Box& box, const Map& map) {
  const int64_t width = box.right - box.left, height = box.bottom - box.top;
  const auto by = static_cast<int64_t>(std::lround(kWidening * static_cast<double>(width * height) /
                                                   static_cast<double>(2 * (width + height))));
  return {std::max<int64_t>(box.left - by, 0), std::max<int64_t>(box.top - by, 0),
          std::min(box.right + by, map.width), std::min(box.bottom + by, map.height)};
}

}  // namespace

bool are_beside(const Box& a, const Box& b) {
  const int64_t shared = std::min(a.bottom, b.bottom) - std::max(a.top, b.top);
  return 2 * shared >= std::min(a.bottom - a.top, b.bottom - b.top);
}

std::vector<Box> find_lines(const solder::Tensor& map_tensor) {
  const solder::Shape& shape = map_tensor.shape();
  Map map{shape[2], shape[3], map_tensor.floats(), std::vector<bool>(map_tensor.floats().size())};
  std::vector<Box> lines;
  for (int64_t y = 0; y < map.height; ++y) {
    for (int64_t x = 0; x < map.width; ++x) {
      if (!map.takes(y, x)) continue;
      const Blob blob = blob_at(map, y, x);
      const Box& box = blob.box;
      if (std::min(box.right - box.left, box.bottom - box.top) < kLeastExtent) continue;
      if (blob.sum < kLikelyInside * static_cast<double>(blob.num_pixels)) continue;
      lines.push_back(widened(box, map));
    }
  }
  std::ranges::sort(lines, {}, &Box::top);
  // Within a row by their left ends. (are_beside is no order by which all could be sorted at once.)
  for (auto row = lines.begin(); row != lines.end();) {
    const auto end = std::find_if(row, lines.end(), [&](const Box& box) { return !are_beside(*row, box); });
    std::sort(row, end, [](const Box& a, const Box& b) { return a.left < b.left; });
    row = end;
  }
  return lines;
}

}  // namespace ocr

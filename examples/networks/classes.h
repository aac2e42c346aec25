#pragma once
// What a classifier says, as text.

#include <solder/solder.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <numeric>
#include <vector>

namespace networks {

/// The five likeliest classes of every image, with their probabilities, a line an image. logits [N,classes] float32.
inline void print_classes(const solder::Tensor& logits) {
  const auto classes = static_cast<size_t>(logits.shape()[1]);
  for (size_t image = 0; image < static_cast<size_t>(logits.shape()[0]); ++image) {
    const auto row = logits.floats().subspan(image * classes, classes);
    std::vector<size_t> order(classes);
    std::iota(order.begin(), order.end(), size_t{0});
    std::ranges::stable_sort(order, [&](size_t a, size_t b) { return row[a] > row[b]; });
    double sum = 0;
    for (const float logit : row) sum += std::exp(double{logit} - row[order[0]]);
    std::cout << "image " << image << ":";
    for (size_t i = 0; i < std::min<size_t>(5, classes); ++i)
      std::cout << "  " << order[i] << " (" << std::exp(double{row[order[i]]} - row[order[0]]) / sum << ")";
    std::cout << "\n";
  }
}

}  // namespace networks

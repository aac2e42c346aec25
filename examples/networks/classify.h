#pragma once
// What the programs of classifiers share: weights and images in, classes out.

#include <solder/solder.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <numeric>
#include <vector>

#include "command_line.h"

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

/// The program `name weights.safetensors images.npy [logits.npy]`, of the graph that `build` makes for the images.
inline int classify(int argc, char** argv, const std::string& name,
                    solder::Graph (*build)(const solder::Shape& images, solder::DType dtype)) try {
  const auto line = parse(argc, argv, (name + " weights.safetensors images.npy [logits.npy]").c_str(), 2, 3);
  // Names in the file are those of the graph's parameters. What the graph does not ask for, such as
  // num_batches_tracked, is ignored; what it misses is listed at once.
  const solder::TensorMap weights = solder::load_safetensors(line.files[0]);
  const solder::Tensor images = solder::load_npy(line.files[1]).to(line.dtype);
  const auto graph = build(images.shape(), line.dtype);
  const auto model = solder::compile(graph, converted(weights, line.dtype), line.compile);
  std::cout << "on " << solder::to_string(model.device()) << ", " << (model.weights_bytes() >> 20)
            << " MiB of weights, " << (model.session_bytes() >> 20) << " MiB a session\n";

  const solder::Tensor logits =
      model.session().run({{"x", images}}).at("logits").to(solder::DType::float32);  // [N,1000]
  print_classes(logits);
  if (line.files.size() > 2) solder::save_npy(line.files[2], logits);
  return 0;
} catch (const solder::Error& error) {
  std::cerr << error.what() << "\n";
  return 1;
}

}  // namespace networks

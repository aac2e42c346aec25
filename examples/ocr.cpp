// Reads the text of a picture with two networks from ONNX files: one finds the lines, the other reads each of them.
//
//   make ocr PICTURE=examples/pictures/receipt.jpg
//
// The networks are PP-OCRv4's (Apache-2.0), which the package rapidocr-onnxruntime carries. Their sizes are fixed when
// they are compiled: the detector's is the picture's, the reader is compiled for each width that a line comes in.

#include <solder/solder.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <map>
#include <sstream>

#include "ocr/lines.h"
#include "ocr/picture.h"

namespace {

using ocr::Box;
using ocr::Picture;

// [1,3,height,width]: blue, green and red, as these networks were trained, minus mean and divided by deviation; what
// lies behind the picture's last column is 0.
solder::Tensor planes_of(const Picture& picture, int64_t width, const float (&mean)[3],
                         const float (&deviation)[3]) {
  solder::Tensor planes = solder::Tensor::empty({1, 3, picture.height, width});
  std::ranges::fill(planes.floats(), 0.0f);
  for (int64_t c = 0; c < 3; ++c)
    for (int64_t y = 0; y < picture.height; ++y)
      for (int64_t x = 0; x < picture.width; ++x) {
        const float value = picture.rgb[static_cast<size_t>((y * picture.width + x) * 3 + 2 - c)];
        planes.floats()[static_cast<size_t>((c * picture.height + y) * width + x)] =
            (value / 255 - mean[c]) / deviation[c];
      }
  return planes;
}

// A network of one input and one output, compiled for images [1,3,height,width].
class Network {
 public:
  explicit Network(std::string path) : path_(std::move(path)) {}

  solder::Tensor run(const solder::Tensor& image) {
    auto session = sessions_.find(image.shape());
    if (session == sessions_.end()) {
      const solder::OnnxNet net = solder::import_onnx(path_, {.shapes = {{"x", image.shape()}}});
      metadata_ = net.metadata;
      session = sessions_.emplace(image.shape(), solder::compile(net.graph, net.weights).session()).first;
    }
    const solder::TensorMap outputs = session->second.run({{"x", image}});
    return outputs.begin()->second;
  }

  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  std::string path_;
  std::map<solder::Shape, solder::Session> sessions_;
  std::map<std::string, std::string> metadata_;
};

int64_t to_multiple(int64_t value, int64_t of) { return std::max<int64_t>((value + of / 2) / of, 1) * of; }

std::vector<Box> find_lines(Network& detector, const Picture& picture) {
  const float mean[] = {0.485f, 0.456f, 0.406f}, deviation[] = {0.229f, 0.224f, 0.225f};
  // The shorter side about 736 pixels, where the picture is smaller: letters are then as large as they were in training.
  const double zoom = std::max(1.0, 736.0 / static_cast<double>(std::min(picture.width, picture.height)));
  const auto zoomed = [&](int64_t extent) {
    return to_multiple(std::lround(zoom * static_cast<double>(extent)), 32);
  };
  const Picture large =
      resized(picture, {0, 0, picture.width, picture.height}, zoomed(picture.width), zoomed(picture.height));
  std::vector<Box> lines = ocr::find_lines(detector.run(planes_of(large, large.width, mean, deviation)));
  for (Box& line : lines)
    line = {line.left * picture.width / large.width, line.top * picture.height / large.height,
            line.right * picture.width / large.width, line.bottom * picture.height / large.height};
  return lines;
}

// The likeliest class at every step; class 0 separates, and what repeats counts once.
std::string read_line(Network& reader, const Picture& picture, const Box& box) {
  constexpr int64_t kHeight = 48;
  const float half[] = {0.5f, 0.5f, 0.5f};
  const int64_t width =
      std::max<int64_t>(kHeight * (box.right - box.left) / std::max<int64_t>(box.bottom - box.top, 1), 1);
  const Picture line = resized(picture, box, width, kHeight);
  const solder::Tensor scores =  // [1, steps, classes]
      reader.run(planes_of(line, to_multiple(width + 31, 64), half, half));

  std::vector<std::string> characters{""};
  std::istringstream alphabet(reader.metadata().at("character"));
  for (std::string character; std::getline(alphabet, character);) characters.push_back(character);
  characters.emplace_back(" ");

  std::string text;
  const auto num_classes = static_cast<size_t>(scores.shape()[2]);
  for (size_t step = 0, last = 0; step < static_cast<size_t>(scores.shape()[1]); ++step) {
    const auto at_step = scores.floats().subspan(step * num_classes, num_classes);
    const auto best = static_cast<size_t>(std::ranges::max_element(at_step) - at_step.begin());
    if (best != last && best < characters.size()) text += characters[best];
    last = best;
  }
  return text;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 4) {
    std::cerr << "usage: ocr PICTURE DETECTOR.onnx READER.onnx\n";
    return 2;
  }
  const Picture picture = ocr::load_picture(argv[1]);
  Network detector(argv[2]), reader(argv[3]);
  const std::vector<Box> lines = find_lines(detector, picture);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) std::cout << (are_beside(lines[i - 1], lines[i]) ? "   " : "\n");
    std::cout << read_line(reader, picture, lines[i]);
  }
  std::cout << "\n";
  return 0;
} catch (const std::exception& error) {
  std::cerr << "ocr: " << error.what() << "\n";
  return 1;
}

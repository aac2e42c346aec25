#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ocr {

/// Bytes from 0 to 255: red, green and blue of each pixel, row by row from the top.
struct Picture {
  int64_t width = 0, height = 0;
  std::vector<uint8_t> rgb;  // [height, width, 3]
};

/// Pixels from (left, top) up to, not including, (right, bottom).
struct Box {
  int64_t left = 0, top = 0, right = 0, bottom = 0;
};

/// A JPEG, PNG, BMP or what else stb_image reads. std::runtime_error with the reason.
Picture load_picture(const std::string& path);

/// The part of the picture inside of `box` at another size.
Picture resized(const Picture& picture, const Box& box, int64_t width, int64_t height);

}  // namespace ocr

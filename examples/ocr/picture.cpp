#include "picture.h"

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_RESIZE_IMPLEMENTATION
#include <stb/stb_image.h>
#include <stb/stb_image_resize.h>

#include <memory>
#include <stdexcept>

namespace ocr {

Picture load_picture(const std::string& path) {
  int width = 0, height = 0, channels = 0;
  const std::unique_ptr<uint8_t, decltype(&stbi_image_free)> rgb(
      stbi_load(path.c_str(), &width, &height, &channels, 3), &stbi_image_free);
  if (rgb == nullptr) throw std::runtime_error(path + ": " + stbi_failure_reason());
  const auto num_bytes = static_cast<size_t>(width) * static_cast<size_t>(height) * 3;
  return {width, height, std::vector<uint8_t>(rgb.get(), rgb.get() + num_bytes)};
}

Picture resized(const Picture& picture, const Box& box, int64_t width, int64_t height) {
  Picture result{width, height, std::vector<uint8_t>(static_cast<size_t>(width * height * 3))};
  const uint8_t* const from = picture.rgb.data() + (box.top * picture.width + box.left) * 3;
  if (stbir_resize_uint8(from, static_cast<int>(box.right - box.left), static_cast<int>(box.bottom - box.top),
                         static_cast<int>(picture.width * 3), result.rgb.data(), static_cast<int>(width),
                         static_cast<int>(height), 0, 3) == 0)
    throw std::runtime_error("the picture cannot be resized: there is no memory");
  return result;
}

}  // namespace ocr

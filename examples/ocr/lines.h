#pragma once

#include <solder/solder.h>

#include <vector>

#include "picture.h"

namespace ocr {

/// Where lines of text are, by a map [1,1,height,width] of how likely each pixel belongs to one: connected pixels above
/// 0.3, where their mean is above 0.5, widened as PP-OCR's detectors were trained to be read. From top to bottom, and
/// from left to right where two lie side by side.
std::vector<Box> find_lines(const solder::Tensor& map);

/// Whether a line lies beside another one: they share half the lower one's height.
bool are_beside(const Box& a, const Box& b);

}  // namespace ocr

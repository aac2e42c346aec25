#pragma once
// What KataGo's network says, as text.

#include "network.h"

namespace katago {

/// Position `i` of `spatial` [N,22,19,19] as a board, with the best five moves, and the other heads' opinions. `results`
/// are the network's outputs in float32.
void print_position(const Network& net, const solder::Tensor& spatial, const solder::TensorMap& results,
                    int64_t i);

}  // namespace katago

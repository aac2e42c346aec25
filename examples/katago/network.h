#pragma once
// KataGo's network files, format 14.

#include <solder/solder.h>

#include <string>
#include <string_view>
#include <vector>

namespace katago {

constexpr int64_t kBoard = 19, kPlanes = 22, kGlobals = 19;

/// A network as solder takes it. Boards are whole: plane 0 of `spatial` is 1 everywhere.
///   inputs   spatial [N,22,19,19], global [N,19]
///   outputs  policy [N,2,19,19], pass [N,2], value [N,3], score [N,6], ownership [N,1,19,19], all as the network has
///            them: before softmax, softplus and tanh
/// `spatial`, `policy` and `ownership` are of the dtype that is asked for, the others float32.
struct Network {
  std::string name;
  std::vector<float> multipliers;  ///< 7: of the score's and errors' units
  solder::Graph graph;
  solder::TensorMap weights;
};

/// The network in the (unpacked) bytes of a file, for `positions` boards at once. Error(io), with `path`, the byte and
/// what was expected there, for a file that is cut or damaged; Error(unsupported) for another format, by its number.
Network read_network(std::string_view file, const std::string& path, int64_t positions,
                     solder::DType dtype = solder::DType::float32);

}  // namespace katago

// Asks a trained KataGo network for its opinion of Go positions:
//   katago kata1-b18c384nbt-....bin.gz spatial.npy global.npy
// `make models` fetches such a network (build/models/katago_b18c384nbt.bin.gz) and makes positions
// (build/models/goldens/katago_seed1/). The network is built layer by layer as its file lists them: katago/network.cpp.
#include <solder/solder.h>

#include "katago/board.h"
#include "katago/gzip.h"
#include "katago/network.h"
#include "networks/command_line.h"

int main(int argc, char** argv) {
  constexpr const char* kUsage = "katago network.bin.gz spatial.npy global.npy [folder for the five outputs]";
  try {
    const auto line = networks::parse(argc, argv, kUsage, 3, 4);
    const solder::Tensor spatial =
        solder::load_npy(line.files[1]);  // [N,22,19,19]: stones, liberties, history, ...
    const solder::Tensor global = solder::load_npy(line.files[2]);  // [N,19]: komi, rules, ...
    const int64_t positions = spatial.shape().empty() ? 1 : spatial.shape()[0];

    const auto net =
        katago::read_network(katago::read_gzip(line.files[0]), line.files[0], positions, line.dtype);
    const auto model = solder::compile(net.graph, net.weights, line.compile);
    std::cout << net.name << ", " << (model.weights_bytes() >> 20) << " MiB of weights, on "
              << solder::to_string(model.device()) << "\n";

    const solder::TensorMap inputs{{"spatial", spatial.to(line.dtype)}, {"global", global}};
    const auto results = networks::converted(model.session().run(inputs), solder::DType::float32);
    for (int64_t i = 0; i < positions; ++i) katago::print_position(net, spatial, results, i);
    if (line.files.size() > 3)
      for (const auto& [head, tensor] : results)
        solder::save_npy(line.files[3] + "/" + head + ".npy", tensor);
  } catch (const solder::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}

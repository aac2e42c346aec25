#pragma once

#include <functional>
#include <utility>
#include <vector>

namespace solder {

/// Work on fixed addresses: everything that can be decided once is decided. On a GPU it is enqueued.
using Launch = std::function<void()>;

/// All of them, one after the other; empty where there is none.
inline Launch in_order(std::vector<Launch> launches) {
  if (launches.empty()) return {};
  if (launches.size() == 1) return std::move(launches[0]);
  return [launches = std::move(launches)] {
    for (const Launch& launch : launches) launch();
  };
}

}  // namespace solder

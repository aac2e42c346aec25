#pragma once

#include <functional>

namespace solder {

/// Work on fixed addresses: everything that can be decided once is decided. On a GPU it is enqueued.
using Launch = std::function<void()>;

}  // namespace solder

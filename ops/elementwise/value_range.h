#pragma once
// What can be said of a program's values before it runs. Code that is made for one program leaves out what
// its values cannot need; the results stay the same bit for bit.

#include <vector>

#include "ops/elementwise/program.h"

namespace solder {

/// By step, where acc lies before it, NaN aside. Operands are taken to be anything.
std::vector<math::Range> known_ranges(const Program& program);

}  // namespace solder
